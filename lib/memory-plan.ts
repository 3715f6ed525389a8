/** How much memory weights and KV cache may take, and the sizes that follow from it. */
import { stat } from 'node:fs/promises'
import type { Checkpoint } from './checkpoint/checkpoint.js'
import { OutOfMemoryError } from './errors.js'
import type { NativeBinding } from './native.js'

/** The options of loadModel() that bear on memory. */
export interface MemoryOptions {
  dtype?: 'auto' | 'bf16' | 'fp16' | 'fp32' | undefined
  contextSize?: number | undefined
  memoryLimit?: number | undefined
  kvCacheType?: 'auto' | 'fp32' | 'bf16' | 'fp16' | undefined
  maxConcurrency?: number | undefined
}

/** The sizes that follow from the checkpoint, the options and the memory of the machine. */
export interface MemoryPlan {
  contextSize: number
  maxConcurrency: number
  kvDtype: 'fp32' | 'bf16' | 'fp16'
  kvBytesPerToken: number
  /** Tokens that the pool of KV blocks holds; its memory is committed as it is first used. */
  kvCacheTokens: number
}

const defaultMaxConcurrency = 32
const kvShareOfFreeMemory = 0.25
/** Below this a context holds no useful prompt. */
const smallestContext = 256

/**
 * Plans the memory of a model before anything large is allocated.
 *
 * @throws OutOfMemoryError when the weights, or the smallest useful context beside them, do not fit.
 */
export async function planMemory(
  binding: NativeBinding,
  checkpoint: Checkpoint,
  options: MemoryOptions,
): Promise<MemoryPlan> {
  const { config } = checkpoint
  const kvType = options.kvCacheType ?? 'auto'
  const kvDtype = kvType === 'auto' ? 'fp32' : kvType
  const headDim = config.hiddenSize / config.numHeads
  const kvBytesPerToken =
    2 * config.numLayers * config.numKvHeads * headDim * (kvDtype === 'fp32' ? 4 : 2)
  const kvBytes = await kvBudget(binding, checkpoint, options)
  const affordable = Math.floor(kvBytes / kvBytesPerToken)
  if (affordable < Math.min(options.contextSize ?? smallestContext, config.maxPositionEmbeddings)) {
    // A context that was asked for may use memory that is only needed when it is full.
    if (options.contextSize === undefined || options.memoryLimit !== undefined) {
      const needed = (options.contextSize ?? smallestContext) * kvBytesPerToken
      throw new OutOfMemoryError(
        `The KV cache may have ${mebibytes(kvBytes)}, but a context of ` +
          `${options.contextSize ?? smallestContext} tokens needs ${mebibytes(needed)}. Raise memoryLimit ` +
          `or free memory, lower contextSize, or set kvCacheType to 'bf16'.`,
        { details: { requiredBytes: needed, availableBytes: kvBytes } },
      )
    }
  }
  const contextSize = options.contextSize ?? Math.min(config.maxPositionEmbeddings, affordable)
  const maxConcurrency = options.maxConcurrency ?? defaultMaxConcurrency
  const kvCacheTokens = Math.max(contextSize, Math.min(affordable, maxConcurrency * contextSize))
  return { contextSize, maxConcurrency, kvDtype, kvBytesPerToken, kvCacheTokens }
}

/** Bytes that the KV cache may take beside the weights. */
async function kvBudget(
  binding: NativeBinding,
  checkpoint: Checkpoint,
  { dtype = 'auto', memoryLimit }: MemoryOptions,
): Promise<number> {
  const files = await Promise.all(checkpoint.weightFiles.map((file) => stat(file)))
  const storedBytes = files.reduce((sum, { size }) => sum + size, 0)
  const weightBytes = storedBytes * growth(checkpoint.config.dtype, dtype)
  const available = binding.cpuInfo().availableMemoryBytes
  const limit = memoryLimit ?? (available > 0 ? available : Infinity)
  if (weightBytes > limit) {
    throw new OutOfMemoryError(
      `The weights need ${mebibytes(weightBytes)}, but ` +
        `${memoryLimit === undefined ? 'the system has' : 'memoryLimit allows'} ${mebibytes(limit)}. ` +
        (memoryLimit === undefined ? 'Free memory' : 'Raise memoryLimit') +
        ' or load a smaller checkpoint.',
      { details: { requiredBytes: weightBytes, availableBytes: limit } },
    )
  }
  if (memoryLimit !== undefined) return memoryLimit - weightBytes
  // Where the system does not say what it has, the cache is planned for a small machine.
  return available > 0 ? (available - weightBytes) * kvShareOfFreeMemory : 2 ** 30
}

/** By how much converting the weights makes them larger than their files. */
function growth(stored: 'bf16' | 'fp16' | 'fp32' | undefined, wanted: string): number {
  if (wanted === 'auto') return 1
  return (wanted === 'fp32' ? 4 : 2) / (stored === 'fp32' ? 4 : 2)
}

const mebibytes = (bytes: number) => `${Math.ceil(bytes / 2 ** 20).toLocaleString('en')} MiB`
