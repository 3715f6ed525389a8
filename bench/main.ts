/**
 * `npm run bench`: `qwen2-vl bench` with the kernels alone beside it, from bench/native.
 *
 *     npm run bench -- [--model <folder>] [--preset 2b|7b] [--quick] [--filter <text>] [--json] [--svg <file>]
 */
import { execFileSync } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { BenchOptions, KernelFigures } from '../lib/bench/bench.js'
import type { Machine, Measurement, Work } from '../lib/bench/report.js'
import { benchCommand } from '../lib/cli/bench.js'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')

/** A line of bench_kernels: the machine, a kernel or a limit. */
type Line =
  Machine | ({ kernel: string; seconds: number[] } & Work) | { limit: string; rates: number[] }

await benchCommand(benchKernels).parseAsync()

/** Builds and runs bench/native. */
function benchKernels(options: BenchOptions): Promise<KernelFigures> {
  const build = join(root, 'build', 'bench')
  const cmake = (...args: string[]) =>
    execFileSync('cmake', args, { stdio: ['ignore', 'ignore', 'inherit'] })
  cmake('-S', root, '-B', build, '-DQVL_ADDON=OFF', '-DQVL_BENCH=ON')
  cmake('--build', build, '--target', 'bench_kernels', '--parallel', String(availableParallelism()))
  const args = [
    ...['--filter', options.filter, '--isa', process.env['QWEN2_VL_CPU'] ?? ''],
    ...(options.threads === undefined ? [] : ['--threads', String(options.threads)]),
    ...(options.quick ? ['--quick'] : []),
  ]
  const output = execFileSync(join(build, 'bench_kernels'), args, {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const lines = output.toString('utf8').trim().split('\n')
  return Promise.resolve(toFigures(lines.map((line) => JSON.parse(line) as Line)))
}

function toFigures(lines: readonly Line[]): KernelFigures {
  return {
    ...lines.find((line) => 'processor' in line)!,
    limits: lines
      .filter((line) => 'limit' in line)
      .map(({ limit, rates }) => ({ name: limit, rates })),
    measurements: lines.filter((line) => 'kernel' in line).map(toMeasurement),
  }
}

/** In GB/s what mostly moves data, in GFLOP/s what mostly computes. */
function toMeasurement({
  kernel,
  seconds,
  ...work
}: { kernel: string; seconds: number[] } & Work): Measurement {
  const movesData = work.operations < 8 * work.bytes
  return {
    ...{ section: 'kernels', name: kernel, seconds, work },
    ...(movesData
      ? { unit: 'GB/s', amount: work.bytes }
      : { unit: 'GFLOP/s', amount: work.operations }),
  }
}
