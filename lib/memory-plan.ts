/** How much memory weights and KV cache may take, and the sizes that follow from it. */
import { stat } from 'node:fs/promises'
import type { Checkpoint } from './checkpoint/checkpoint.js'
import { OutOfMemoryError } from './errors.js'
import { bytesSaved, bytesStoredQuantized, type QuantizationOptions } from './quantization.js'

/** The options of loadModel() that bear on memory. */
export interface MemoryOptions extends QuantizationOptions {
  dtype?: 'auto' | 'bf16' | 'fp16' | 'fp32' | undefined
  weights?: 'packed' | 'mapped' | undefined
  contextSize?: number | undefined
  memoryLimit?: number | undefined
  kvCacheType?: 'auto' | 'fp32' | 'bf16' | 'fp16' | undefined
  maxConcurrency?: number | undefined
}

/** What there is to plan with. */
export interface MemoryBudget {
  /** 0 where the system does not say. */
  availableBytes: number
  /** Of what the weights leave, what the cache may take. */
  kvShare: number
  owner: 'the system' | 'the GPU'
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
/** Where the system does not say what it has, the cache is planned for a small machine. */
const kvBytesWhenUnknown = 2 ** 30
/** Below this a context holds no useful prompt. */
const smallestContext = 256

/**
 * Plans the memory of a model before anything large is allocated.
 *
 * @throws OutOfMemoryError when the weights, or the smallest useful context beside them, do not fit.
 */
export async function planMemory(
  checkpoint: Pick<Checkpoint, 'config' | 'weightFiles'>,
  options: MemoryOptions,
  budget: MemoryBudget,
): Promise<MemoryPlan> {
  const { config } = checkpoint
  const { kvCacheType = 'auto', maxConcurrency = defaultMaxConcurrency, memoryLimit } = options
  const kvDtype = kvCacheType === 'auto' ? 'fp32' : kvCacheType
  const headDim = config.hiddenSize / config.numHeads
  const kvBytesPerToken =
    2 * config.numLayers * config.numKvHeads * headDim * (kvDtype === 'fp32' ? 4 : 2)

  const kvBytes = await kvBudget(checkpoint, options, budget)
  const affordable = Math.floor(kvBytes / kvBytesPerToken)
  const wanted = options.contextSize ?? config.maxPositionEmbeddings
  // A context that was asked for may exceed what is set aside by default, as a machine's memory is
  // only used when it is full. It may not exceed a limit that was set, nor what a GPU has beside the
  // weights: that memory must be there at once.
  const isFixed = options.contextSize !== undefined && memoryLimit === undefined
  const contextSize = isFixed ? wanted : Math.min(wanted, affordable)
  const least = options.contextSize ?? Math.min(smallestContext, wanted)
  if (contextSize < least) throw contextDoesNotFit(least, least * kvBytesPerToken, kvBytes)
  if (isFixed && budget.owner === 'the GPU') {
    const most = await kvBudget(checkpoint, options, { ...budget, kvShare: 1 })
    if (least * kvBytesPerToken > most) {
      throw contextDoesNotFit(least, least * kvBytesPerToken, most)
    }
  }
  const kvCacheTokens = Math.max(contextSize, Math.min(affordable, maxConcurrency * contextSize))
  return { contextSize, maxConcurrency, kvDtype, kvBytesPerToken, kvCacheTokens }
}

/** Bytes that the KV cache may take beside the weights. */
async function kvBudget(
  { config, weightFiles }: Pick<Checkpoint, 'config' | 'weightFiles'>,
  { dtype = 'auto', weights = 'packed', memoryLimit, ...options }: MemoryOptions,
  budget: MemoryBudget,
): Promise<number> {
  const { availableBytes, kvShare, owner } = budget
  const files = await Promise.all(weightFiles.map((file) => stat(file)))
  const storedBytes = files.reduce((sum, { size }) => sum + size, 0)
  const kept = dtype === 'auto' ? config.dtype : dtype
  // What is stored quantised stays as it is.
  const quantizedBytes = Math.min(bytesStoredQuantized(config), storedBytes)
  const weightBytes =
    quantizedBytes +
    (storedBytes - quantizedBytes) * growth(config.dtype, dtype) -
    bytesSaved(config, options, kept === 'fp32' ? 4 : 2)
  if (weights === 'mapped') return kvBudgetBesideMapped(weightBytes, memoryLimit, budget)
  const limit = memoryLimit ?? (availableBytes > 0 ? availableBytes : Infinity)
  if (weightBytes > limit) {
    const isLimited = memoryLimit !== undefined
    throw new OutOfMemoryError(
      `The weights need ${mebibytes(weightBytes)}, but ` +
        `${isLimited ? 'memoryLimit allows' : `${owner} has`} ${mebibytes(limit)}. ` +
        `${isLimited ? 'Raise memoryLimit' : 'Free memory'} or load a smaller checkpoint.`,
      { details: { requiredBytes: weightBytes, availableBytes: limit } },
    )
  }
  if (memoryLimit !== undefined) return memoryLimit - weightBytes
  if (availableBytes === 0) return kvBytesWhenUnknown
  return (availableBytes - weightBytes) * kvShare
}

/**
 * Mapped weights are the system's to keep or to drop: no limit counts them, and none is too many. By default the
 * cache still leaves room for them, as dropped pages are read again with every token.
 */
function kvBudgetBesideMapped(
  weightBytes: number,
  memoryLimit: number | undefined,
  { availableBytes, kvShare }: MemoryBudget,
): number {
  if (memoryLimit !== undefined) return memoryLimit
  if (availableBytes === 0) return kvBytesWhenUnknown
  const room = Math.min(weightBytes, availableBytes / 2)
  return (availableBytes - room) * kvShare
}

function contextDoesNotFit(tokens: number, requiredBytes: number, availableBytes: number) {
  return new OutOfMemoryError(
    `The KV cache may have ${mebibytes(availableBytes)}, but a context of ${tokens} tokens needs ` +
      `${mebibytes(requiredBytes)}. Raise memoryLimit or free memory, lower contextSize, or set ` +
      `kvCacheType to 'bf16'.`,
    { details: { requiredBytes, availableBytes } },
  )
}

/** By how much converting the weights makes them larger than their files. */
function growth(stored: 'bf16' | 'fp16' | 'fp32' | undefined, wanted: string): number {
  if (wanted === 'auto') return 1
  return (wanted === 'fp32' ? 4 : 2) / (stored === 'fp32' ? 4 : 2)
}

const mebibytes = (bytes: number) => `${Math.ceil(bytes / 2 ** 20).toLocaleString('en')} MiB`
