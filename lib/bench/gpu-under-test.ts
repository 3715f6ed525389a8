/** The GPU that a benchmark runs on, and what the kernels' model expects of it. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Checkpoint } from '../checkpoint/checkpoint.js'
import { chooseDevice } from '../device.js'
import { nativeBinding } from '../native.js'
import { packageRoot } from '../package-root.js'
import { decodeStep, kernelTime, plain, quantized, stepTime } from './decode-model.js'
import type { StepFormat } from './decode-model.js'
import { gpuOf, type Gpu } from './gpus.js'
import type { LoadOptions } from './model-rows.js'
import type { LoadedModel } from './work.js'

export interface GpuUnderTest {
  ordinal: number
  gpu: Gpu
  /** Counted instructions of kernels by name; none in the published package, which has no docs/kernels.json. */
  instructions: ReadonlyMap<string, number>
}

/** The GPU that a model would be loaded on; undefined for the CPU. Throws as loadModel() does. */
export async function gpuUnderTest(
  checkpoint: Checkpoint,
  options: LoadOptions,
): Promise<GpuUnderTest | undefined> {
  const binding = nativeBinding()
  const { cudaDevice: ordinal } = await chooseDevice(binding, checkpoint, options)
  if (ordinal === null) return undefined
  const device = (await binding.cudaInfo(ordinal)).devices[ordinal]
  return device && { ordinal, gpu: gpuOf(device), instructions: await countedInstructions() }
}

async function countedInstructions(): Promise<Map<string, number>> {
  interface KernelReport {
    counters: { kernel: string; instructionsPerNumber?: number }[]
  }
  const text = await readFile(join(packageRoot, 'docs', 'kernels.json'), 'utf8').catch(() => '')
  const { counters } = text === '' ? { counters: [] } : (JSON.parse(text) as KernelReport)
  return new Map(
    counters.flatMap(({ kernel, instructionsPerNumber: count }) =>
      count === undefined ? [] : [[kernel, count]],
    ),
  )
}

/** Bytes of the GPU's memory that are in use, by whomever. */
export async function usedMemory({ ordinal, gpu }: GpuUnderTest): Promise<number> {
  const device = (await nativeBinding().cudaInfo(ordinal)).devices[ordinal]
  return gpu.memoryBytes - (device?.freeBytes ?? 0)
}

/**
 * Seconds that the model gives a kernel of decoding; undefined where the driver does not say what it takes.
 */
export function modelledKernel(
  { gpu, instructions }: GpuUnderTest,
  work: Parameters<typeof kernelTime>[0],
): number | undefined {
  if (gpu.bandwidth === 0 || gpu.clock === 0) return undefined
  return kernelTime(work, gpu, (name) => instructions.get(name)).seconds
}

/**
 * Seconds that the model gives a step of one sequence; undefined where the driver does not say what it takes.
 *
 * @param context tokens in the cache.
 */
export function modelledStep(
  { gpu, instructions }: GpuUnderTest,
  model: LoadedModel,
  context: number,
): number | undefined {
  if (gpu.bandwidth === 0 || gpu.clock === 0) return undefined
  const { config } = model
  const shape = {
    ...{ layers: config.numLayers, hidden: config.hiddenSize, inner: config.intermediateSize },
    ...{ heads: config.numHeads, kvHeads: config.numKvHeads, vocabulary: config.vocabSize },
  }
  const { layers, head } = stepFormats(model)
  const works = decodeStep(shape, layers, context, head)
  return stepTime(works, gpu, (kernel) => instructions.get(kernel)).seconds
}

/** How the matrices of a model lie in memory: see lib/quantization.ts and work.ts. */
function stepFormats({ config, dtype, quantization }: LoadedModel): {
  layers: StepFormat
  head: StepFormat
} {
  const type = dtype === 'fp16' ? 'fp16' : 'bf16'
  const stored = config.storedQuantization
  if (stored)
    return { layers: quantized(stored.bits, stored.groupSize, 8, type), head: plain(type) }
  const head = quantized(8, 128, 0, type)
  switch (quantization.quantization) {
    case 'int8':
      return { layers: head, head }
    case 'int4':
      return { layers: quantized(4, 32, 0, type), head }
    case 'none':
      return { layers: plain(type), head: plain(type) }
  }
}
