/**
 * `npm run bench`: `qwen2-vl bench` with the kernels alone beside it, from bench/native, or on a GPU bench/cuda.
 *
 *     npm run bench -- [--model <folder>] [--preset 2b|7b] [--device <device>] [--quick] [--filter <text>] [--json] [--svg <file>]
 */
import { execFileSync } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { BenchOptions } from '../lib/bench/bench.js'
import { modelledKernel, type GpuUnderTest } from '../lib/bench/gpu-under-test.js'
import { isSimulator } from '../lib/bench/gpus.js'
import { operationsOf, type Measurement, type Timed, type Work } from '../lib/bench/report.js'
import { benchCommand } from '../lib/cli/bench.js'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')

/** A kernel's line of bench_kernels. */
type KernelLine = { kernel: string } & Timed & Work

type KernelMeasurement = Extract<Measurement, { timed: Timed }>

/** Builds and runs bench/native, or bench/cuda where the model is on a GPU. */
function benchKernels(
  options: BenchOptions,
  gpu: GpuUnderTest | undefined,
): Promise<Measurement[]> {
  const { threads } = options.load
  const program = gpu ? 'bench_cuda' : 'bench_kernels'
  const args = gpu
    ? [
        ...['--device', String(gpu.ordinal)],
        // A simulator shows that they run, no more.
        ...(isSimulator(gpu.gpu) ? ['--small'] : []),
      ]
    : [
        ...['--isa', process.env['QWEN2_VL_CPU'] ?? ''],
        ...(threads === undefined ? [] : ['--threads', String(threads)]),
      ]
  const build = join(root, 'build', 'bench')
  const cmake = (...args: string[]) =>
    execFileSync('cmake', args, { stdio: ['ignore', 'ignore', 'inherit'] })
  cmake('-S', root, '-B', build, '-DQVL_ADDON=OFF', '-DQVL_BENCH=ON')
  cmake('--build', build, '--target', program, '--parallel', String(availableParallelism()))
  const filter = ['--filter', options.filter, ...(options.quick ? ['--quick'] : [])]
  const output = execFileSync(join(build, program), [...args, ...filter], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [, ...kernels] = output.toString('utf8').trim().split('\n')
  return Promise.resolve(
    kernels.map((line) => {
      const kernel = JSON.parse(line) as KernelLine
      return gpu ? besideGpu(toMeasurement(kernel), kernel, gpu) : toMeasurement(kernel)
    }),
  )
}

/** In GB/s what mostly moves data, in GFLOP/s what mostly computes. */
function toMeasurement({ kernel, seconds, limits, ...work }: KernelLine): KernelMeasurement {
  const operations = operationsOf(work)
  const movesData = operations < 8 * work.bytes
  return {
    ...{ section: 'kernels', name: kernel, timed: { seconds, limits }, work },
    ...(movesData ? { unit: 'GB/s', amount: work.bytes } : { unit: 'GFLOP/s', amount: operations }),
  }
}

/** Kernels of decoding that the model of docs/kernels.md knows, by how their rows' names begin. */
const modelled: readonly [start: string, kernel: string][] = [
  ['GEMV o bf16', 'gemv_residual_bf16'],
  ['GEMV gate_up bf16', 'gemv_swiglu_bf16'],
  ['GEMV gate_up int8', 'gemv_int8_swiglu_g128_bf16'],
  ['GEMV gate_up int4', 'gemv_int4_swiglu_g32_bf16'],
  ['GEMV down bf16', 'gemv_residual_bf16'],
  ['GEMV down int4', 'gemv_int4_residual_g32_bf16'],
  ['GEMV head bf16', 'gemv_logits_bf16'],
  ['attention decode', 'attention_decode_128_bf16'],
]

/** Of one row each weight is multiplied and added once; keys and values have 16 bits. */
function numbersRead(kernel: string, bytes: number, operations: number): number {
  return kernel.startsWith('gemv') ? operations / 2 : bytes / 2
}

/** With the peak of the GPU's memory, and what the model gives. */
function besideGpu(
  measurement: KernelMeasurement,
  { kernel, bytes, fp32 }: KernelLine,
  gpu: GpuUnderTest,
): Measurement {
  const { bandwidth } = gpu.gpu
  const limits = bandwidth > 0 ? [{ name: 'memory', rates: [bandwidth] }] : []
  const known = modelled.find(([start]) => kernel.startsWith(start))?.[1]
  const seconds =
    known === undefined
      ? undefined
      : modelledKernel(gpu, { kernel: known, bytes, numbers: numbersRead(known, bytes, fp32) })
  return {
    ...measurement,
    timed: { ...measurement.timed, limits },
    ...(seconds !== undefined && { modelled: seconds }),
  }
}

await benchCommand(benchKernels).parseAsync()
