/**
 * `npm run bench`: `qwen2-vl bench` with the kernels alone beside it, from bench/native.
 *
 *     npm run bench -- [--model <folder>] [--preset 2b|7b] [--quick] [--filter <text>] [--json] [--svg <file>]
 */
import { execFileSync } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { BenchOptions } from '../lib/bench/bench.js'
import { operationsOf, type Measurement, type Timed, type Work } from '../lib/bench/report.js'
import { benchCommand } from '../lib/cli/bench.js'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')

/** A kernel's line of bench_kernels. */
type KernelLine = { kernel: string } & Timed & Work

await benchCommand(benchKernels).parseAsync()

/** Builds and runs bench/native. */
function benchKernels(options: BenchOptions): Promise<Measurement[]> {
  // They are the processor's.
  if (options.load.device !== 'cpu') return Promise.resolve([])
  const build = join(root, 'build', 'bench')
  const cmake = (...args: string[]) =>
    execFileSync('cmake', args, { stdio: ['ignore', 'ignore', 'inherit'] })
  cmake('-S', root, '-B', build, '-DQVL_ADDON=OFF', '-DQVL_BENCH=ON')
  cmake('--build', build, '--target', 'bench_kernels', '--parallel', String(availableParallelism()))
  const { threads } = options.load
  const args = [
    ...['--filter', options.filter, '--isa', process.env['QWEN2_VL_CPU'] ?? ''],
    ...(threads === undefined ? [] : ['--threads', String(threads)]),
    ...(options.quick ? ['--quick'] : []),
  ]
  const output = execFileSync(join(build, 'bench_kernels'), args, {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [, ...kernels] = output.toString('utf8').trim().split('\n')
  return Promise.resolve(kernels.map((line) => toMeasurement(JSON.parse(line) as KernelLine)))
}

/** In GB/s what mostly moves data, in GFLOP/s what mostly computes. */
function toMeasurement({ kernel, seconds, limits, ...work }: KernelLine): Measurement {
  const operations = operationsOf(work)
  const movesData = operations < 8 * work.bytes
  return {
    ...{ section: 'kernels', name: kernel, timed: { seconds, limits }, work },
    ...(movesData ? { unit: 'GB/s', amount: work.bytes } : { unit: 'GFLOP/s', amount: operations }),
  }
}
