/** The only module that touches the addon. It names and types every native function. */
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { BackendError } from './errors.js'
import { packageRoot } from './package-root.js'

/** Hyper-parameters as the core takes them: native/model/config.h, camelCase. */
export interface NativeModelConfig {
  hiddenSize: number
  intermediateSize: number
  numLayers: number
  numHeads: number
  numKvHeads: number
  vocabSize: number
  rmsNormEps: number
  ropeTheta: number
  mropeSection: [number, number, number]
  tieWordEmbeddings: boolean
  imageTokenId: number
  videoTokenId: number
  vision: { depth: number; embedDim: number; numHeads: number; mlpDim: number; outDim: number }
  imageMean: [number, number, number]
  imageStd: [number, number, number]
  rescaleFactor: number
  /** Of the matrices that are stored quantised; the names of tensors say which these are. */
  storedQuantization?: NativeStoredQuantization | undefined
}

/** native/model/stored_quantization.h, camelCase. */
export interface NativeStoredQuantization {
  method: 'awq' | 'gptq'
  bits: 4 | 8
  /** Inputs that share a scale; 0: all. */
  groupSize: 0 | 32 | 64 | 128
  /** Zero points are stored less one. */
  zerosLessOne: boolean
  /** Inputs are not in the order of their groups: `g_idx` must be there. */
  needsGroupIndex: boolean
}

export interface NativeLoadOptions {
  /** Absolute paths of the safetensors files. */
  weightFiles: string[]
  config: NativeModelConfig
  /** The GPU's number, counted from 0; null: the CPU. Weights then become `kvDtype`. */
  cudaDevice: number | null
  /** 0 = the physical cores this process may use. */
  threads: number
  /** '' = best; or a name of `ModelInfo.device.instructionSet`. */
  instructionSet: string
  weightDtype: 'auto' | 'bf16' | 'fp16' | 'fp32'
  /** 'mapped' needs types that are kept. */
  weights: 'packed' | 'mapped'
  quantization: 'none' | 'int8' | 'int4'
  visionQuantization: 'none' | 'int8'
  activations: 'fp32' | 'int8'
  kvDtype: 'bf16' | 'fp16' | 'fp32'
  /** Tokens the KV pool holds, rounded up to blocks. */
  kvCacheTokens: number
  maxContext: number
  maxSequences: number
  maxQueue: number
  prefillChunk: number
  /** Bytes of visual tokens that are kept; 0 = none. */
  imageCacheBytes: number
}

export interface NativeLoadProgress {
  loadedBytes: number
  totalBytes: number
}

/** A load that runs on a native thread. */
export interface NativeLoading {
  promise: Promise<NativeModel>
  /** Makes the promise reject with code `ERR_ABORTED`. */
  cancel(): void
}

/** 8-bit RGB pixels in native memory. */
export interface NativeImage {
  readonly width: number
  readonly height: number
  /** A copy of the pixels, row-major RGB. */
  toRgb(): Uint8Array
}

export interface NativeRawPixels {
  data: Uint8Array | Uint8ClampedArray
  width: number
  height: number
  channels: 1 | 2 | 3 | 4
  cmyk: boolean
}

export interface NativeVisionItem {
  frames: NativeImage[]
  isVideo: boolean
}

export interface NativeSampling {
  temperature: number
  topK: number
  topP: number
  minP: number
  repetitionPenalty: number
  frequencyPenalty: number
  presencePenalty: number
  penaltyLastN: number
  noRepeatNgramSize: number
  logitBias: { id: number; bias: number }[]
  seed: bigint
}

/** A grammar made ready for the model that compiled it; nothing can be read of it. */
export interface NativeGrammar {
  readonly nativeGrammar: unique symbol
}

export interface NativeGenerationRequest {
  prompt: Int32Array
  items: NativeVisionItem[]
  sampling: NativeSampling
  stopIds: Int32Array
  maxTokens: number
  /** Higher runs first. */
  priority: number
  /** Whether the prefix cache and the image cache may serve it and keep what is its. */
  useCache: boolean
  /** The longest draft that a step verifies; 0 = none. */
  maxDraftTokens: number
  /** Whether `logSumExp` is wanted. */
  logProbabilities: boolean
  topLogits: number
  /** What the answer must look like. Requests of one grammar should share it. */
  grammar?: NativeGrammar | undefined
}

export interface NativeStats {
  promptTokens: number
  /** Of the prompt, taken from the prefix cache. */
  cachedTokens: number
  completionTokens: number
  /** Guessed tokens that were verified, and those of them that came true. */
  draftTokens: number
  acceptedDraftTokens: number
  queueMs: number
  visionMs: number
  prefillMs: number
  firstTokenMs: number
  decodeMs: number
  /** By item: whether it was not encoded for this request. */
  reusedItems: boolean[]
}

export interface NativeToken {
  type: 'token'
  id: number
  /** Raw: before bias, penalties and temperature; 0 unless `logProbabilities` or `topLogits` ask for it. */
  logit: number
  /** Of all raw logits; 0 unless `logProbabilities`. A logit less this is a log probability. */
  logSumExp: number
  /** Raw, largest first. */
  topLogits?: { id: number; logit: number }[]
}

export type NativeGenerationEvent =
  | NativeToken
  | { type: 'finish'; reason: 'stop' | 'length' | 'cancelled'; stats: NativeStats }
  /** `error` carries `code` and `details` as every native error does. */
  | { type: 'error'; error: Error }

export interface NativeGeneration {
  /** Asks for the end; a 'finish' event with reason 'cancelled' follows unless it had ended. */
  cancel(): void
}

/** A snapshot of what the engine is doing. */
export interface NativeMetrics {
  running: number
  waiting: number
  /** Blocks of 32 tokens that running requests use. */
  kvBlocksUsed: number
  /** Blocks that nobody uses, kept for prompts that begin alike. */
  kvBlocksCached: number
  kvBlocksTotal: number
  generatedTokens: number
  promptTokens: number
  /** Of `promptTokens`, those that were not computed again. */
  cachedPromptTokens: number
  /** Guessed tokens of answers that were verified, and those of them that came true. */
  draftTokens: number
  acceptedDraftTokens: number
  /** Forward passes. */
  steps: number
  preemptions: number
  /** Images and videos that did not have to be encoded, and those that had to. */
  imageCacheHits: number
  imageCacheMisses: number
  /** What the image cache holds. */
  imageCacheImages: number
  imageCacheBytes: number
}

export interface NativeDevice {
  kind: 'cpu' | 'cuda'
  name: string
  instructionSet: string
  threads: number
  /** Of a GPU. */
  memoryBytes?: number
}

export interface NativeModel {
  readonly device: NativeDevice
  readonly numParameters: number
  /** Bytes of the weights in memory, or in the mapped files. */
  readonly weightBytes: number
  /** Throws synchronously what the engine refuses (context too long, queue full, disposed). */
  generate(
    request: NativeGenerationRequest,
    onEvent: (event: NativeGenerationEvent) => void,
  ): NativeGeneration
  /**
   * What the ids stand for, for grammars: `bytes` in order of id, `lengths` of them each; 0 bytes for
   * special tokens and ids without a token. Works on a native thread.
   */
  setVocabulary(bytes: Uint8Array, lengths: Int32Array): Promise<void>
  /**
   * Checks and compiles a grammar, written as lib/constraint/pack.ts does, on a native thread. After
   * setVocabulary().
   */
  compileGrammar(packed: Int32Array): Promise<NativeGrammar>
  metrics(): NativeMetrics
  /** What the model's device can give beside what is in use; 0 when it does not say, or after dispose(). */
  availableBytes(): Promise<number>
  /** Drops the prefix cache and the image cache, but for pinned items; resolves within one step. */
  clearCache(): Promise<void>
  /** Keeps the item's visual tokens, once encoded, until as many unpin() as pin() were called. */
  pin(item: NativeVisionItem): void
  unpin(item: NativeVisionItem): void
  /** Ends running requests with ERR_DISPOSED; resolves when the memory is back. Idempotent. */
  dispose(): Promise<void>
}

export interface NativeTensorInfo {
  name: string
  dtype: string
  shape: number[]
  /** Where its bytes are in the file, and how many. */
  offset: number
  bytes: number
  file: string
}

/** A shared library that was looked for. */
export interface NativeLibraryInfo {
  found: boolean
  path: string
  /** '' when it does not say. */
  version: string
}

export interface NativeCudaInfo {
  /** Whether this build holds CUDA kernels, and why it does not. */
  built: boolean
  builtReason: string
  driver: NativeLibraryInfo
  cublasLt: NativeLibraryInfo
  devices: {
    name: string
    /** For example `9.0`. */
    computeCapability: string
    memoryBytes: number
    multiprocessors: number
    /** The highest clock rates and the width of the memory bus; 0 where the driver does not say. */
    clockHz: number
    memoryClockHz: number
    memoryBusBits: number
    /** null: not asked. */
    freeBytes: number | null
    /** Why no model can run on it; '' when one can. */
    reason: string
  }[]
  /** Whether a model can run on at least one of the devices; `reason` says what is missing first. */
  usable: boolean
  reason: string
}

export interface NativeBinding {
  loadModel(
    options: NativeLoadOptions,
    onProgress: ((progress: NativeLoadProgress) => void) | undefined,
  ): NativeLoading
  /** Reads and checks only the headers of safetensors files, on a native thread. */
  readTensorTable(weightFiles: string[]): Promise<NativeTensorInfo[]>
  /**
   * Checks all that loading would before it reads numbers: names, shapes and types of all tensors. On a
   * native thread.
   */
  checkWeights(
    weightFiles: string[],
    config: NativeModelConfig,
  ): Promise<{ numParameters: number; weightBytes: number }>
  /**
   * Rounds a matrix [rows, cols] to the codes of AWQ or GPTQ, with a scale for every row and group of columns, as
   * a checkpoint stores them. On a native thread; `data` is not copied and must not be changed meanwhile.
   */
  quantizeMatrix(
    matrix: { data: Uint8Array; dtype: 'bf16' | 'fp16' | 'fp32'; rows: number; cols: number },
    format: NativeStoredQuantization,
  ): Promise<{ qweight: Uint8Array; qzeros: Uint8Array; scales: Uint8Array }>
  /**
   * Converts to RGB and resizes once per size of `sizes`, on a native thread. The filter is Pillow's
   * bicubic, or torchvision's on float32 samples as the frames of video files have it.
   * `pixels.data` is not copied and must not be changed before the promise settles.
   */
  prepareImage(
    pixels: NativeRawPixels,
    alpha: 'composite' | 'drop',
    sizes: { width: number; height: number; filter?: 'pillow' | 'torchvision' }[],
  ): Promise<NativeImage>
  /** Patch rows [numPatches, 1176] of the item as the reference's processor gives them. */
  extractPatches(
    item: NativeVisionItem,
    imageMean: [number, number, number],
    imageStd: [number, number, number],
    rescaleFactor: number,
  ): Promise<Float32Array>
  /** T, H, W position ids, [3 x tokens], and the delta of the tokens to come. */
  computePositions(
    tokenIds: Int32Array,
    grids: { t: number; h: number; w: number; isVideo: boolean }[],
    imageTokenId: number,
    videoTokenId: number,
  ): { positions: Int32Array; delta: number }
  /**
   * What there is of CUDA. Free memory is asked of device `ordinal` alone, without it of all, since asking
   * starts a device.
   */
  cudaInfo(ordinal?: number): Promise<NativeCudaInfo>
  /** What the processor offers, and the memory that is free; 0 when the system does not say. */
  cpuInfo(): {
    name: string
    instructionSets: string[]
    physicalCores: number
    availableMemoryBytes: number
  }
  /** 'read', the memory bandwidth, then 'fp32 …' and 'int8 …' for each instruction set. */
  limitNames(): string[]
  /**
   * What the processor can do at most, in bytes or operations a second: a good one of passes that take about
   * `seconds`, on a native thread. 0 threads = the physical cores.
   */
  measureLimit(name: string, threads: number, seconds: number): Promise<number>
  /** Bytes that copies within GPU `ordinal`'s memory read and write a second: the best of about `seconds`. */
  measureGpuCopy(ordinal: number, seconds: number): Promise<number>
}

let binding: NativeBinding | undefined

/** Loads the addon on first use: the package's own for this platform, or one built from source. */
export function nativeBinding(): NativeBinding {
  return (binding ??= loadBinding())
}

/** The file that is loaded here, whether or not it can be; undefined where there is none. */
export function findBinary(): string | undefined {
  try {
    return nodeGypBuild().resolve(packageRoot)
  } catch {
    return undefined // it throws for nothing else
  }
}

function nodeGypBuild() {
  return createRequire(import.meta.url)('node-gyp-build') as {
    (directory: string): unknown
    resolve(directory: string): string
  }
}

function loadBinding(): NativeBinding {
  const file = findBinary()
  try {
    return nodeGypBuild()(packageRoot) as NativeBinding
  } catch (cause) {
    const { platform, arch } = process
    const what = file
      ? `The binary ${file} cannot be loaded here (${(cause as Error).message})`
      : `There is no prebuilt binary for this machine (${platform}-${arch})`
    throw new BackendError(
      'ERR_NO_BINARY',
      `${what}: build one with "npm install cmake-js node-addon-api && node ` +
        `${join(packageRoot, 'scripts', 'build-native.mjs')}", which needs cmake 3.18 and a C++20 compiler.`,
      { cause, details: { platform: `${platform}-${arch}`, tried: file ?? packageRoot } },
    )
  }
}
