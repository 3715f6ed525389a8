/** The benchmark: a model, and kernels where the caller can run them, beside the machine's limits. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { openCheckpoint } from '../checkpoint/checkpoint.js'
import { findModelFolder } from '../hub/find-model.js'
import { packageRoot } from '../package-root.js'
import { gpuUnderTest, type GpuUnderTest } from './gpu-under-test.js'
import { isSimulator } from './gpus.js'
import { GpuLimits, LimitSampler } from './limits.js'
import {
  fullPlan,
  measureModel,
  quickPlan,
  type LoadOptions,
  type ModelFigures,
} from './model-rows.js'
import { toRow, type Machine, type Measurement, type Report } from './report.js'
import { quick, Stopwatch, thorough } from './stopwatch.js'

/** What to measure, and how thoroughly. */
export interface BenchOptions {
  /** A checkpoint folder, or `tiny`. */
  model: string
  /** Only rows whose name has this. */
  filter: string
  quick: boolean
  /** How the model is loaded; `threads` are those of the limits and the kernels as well. */
  load: LoadOptions
}

/** Measures the kernels alone, of the GPU where there is one; only a clone of the repository can. */
export type KernelBench = (
  options: BenchOptions,
  gpu: GpuUnderTest | undefined,
) => Promise<Measurement[]>

/** In less, the threads of a measurement may not have come apart: they begin on one core. */
const LIMIT_SECONDS = 0.1
/** Of copies in a GPU's memory, each of which takes milliseconds. */
const COPY_SECONDS = 0.02

/** Runs everything and compares it with the limits of the whole run. */
export async function runBench(options: BenchOptions, benchKernels?: KernelBench): Promise<Report> {
  const effort = options.quick ? quick : thorough
  const source = await findModelFolder(options.model)
  const gpu = await gpuUnderTest(await openCheckpoint(source), options.load)
  const limits = gpu
    ? new GpuLimits(gpu.ordinal, gpu.gpu, COPY_SECONDS)
    : new LimitSampler(options.load.threads ?? 0, LIMIT_SECONDS)
  const load = { ...options.load, device: gpu ? (`cuda:${gpu.ordinal}` as const) : 'cpu' } as const
  const kernels = await benchKernels?.({ ...options, load }, gpu)
  for (const measured of kernels ?? []) {
    if ('timed' in measured) for (const rates of measured.timed.limits) limits.add(rates)
  }
  // Not before the model: its peak of memory would be that of the bandwidth's measurement.
  const model = await measureModel(
    source,
    load,
    { ...(options.quick ? quickPlan : fullPlan), filter: options.filter },
    new Stopwatch(limits, effort),
    gpu,
  )
  const machine = machineOf(model)
  const all = limits.limits()
  const measurements = [...(kernels ?? []), ...model.measurements]
  return {
    package: await packageVersion(),
    node: process.version,
    ...machine,
    ...(gpu && isSimulator(gpu.gpu) && { isSimulated: true as const }),
    model: modelOf(model),
    limits: all,
    rows: measurements.map((measured) => toRow(measured, all, machine.instructionSet)),
  }
}

function machineOf({ info }: ModelFigures): Machine {
  const { name, instructionSet, threads } = info.device
  return { processor: name, instructionSet, threads }
}

function modelOf({ info }: ModelFigures): Report['model'] {
  const { folder, parameters, weightBytes, dtype, quantization } = info
  return { folder, parameters, weightBytes, dtype, ...quantization }
}

async function packageVersion(): Promise<string> {
  const json = await readFile(join(packageRoot, 'package.json'), 'utf8')
  return (JSON.parse(json) as { version: string }).version
}
