/** What a request will need, from its sizes alone: nothing is decoded and the model does not run. */
import type { ModelConfig } from '../checkpoint/config.js'
import type { MeasuredItem } from '../processor/image.js'
import { DEFAULT_MIN_PIXELS, SIDE_MULTIPLE } from '../processor/smart-resize.js'

/** What has to be computed before the first token, in floating-point operations. */
export interface Work {
  /** Of the vision tower. */
  visionFlops: number
  /** Of the decoder, for the prompt. */
  prefillFlops: number
}

/** Memory, work and time of one request, beside whatever else the model is doing. */
export interface MemoryEstimate extends Work {
  promptTokens: number
  /** The longest answer that the request allows; each of them, where it asks for several. */
  maxTokens: number
  /** Weights, which are in memory already, or in mapped files whose pages should stay in it. */
  weightsBytes: number
  /**
   * Activations of the vision tower and visual tokens at the worst moment. On the CPU pixels as well, which a GPU
   * does not hold.
   */
  visionWorkspaceBytes: number
  /** Keys and values of the prompt and the longest answer. */
  kvBytes: number
  /** All of these together. */
  peakBytes: number
  /**
   * What the system can give, beside the weights; on a GPU what its driver can give beside weights and KV cache. 0
   * when it does not say.
   */
  availableBytes: number
  /** Whether the prompt leaves room for an answer in the context, and the memory is there. */
  fits: boolean
  /** For a request that does not fit: the `maxPixels` for each of its images and videos with which it would. */
  suggestedMaxPixels?: number
  /**
   * Time before the first token, by the rates that this model's earlier requests reached; absent while
   * none has been measured.
   */
  expectedMs?: { vision: number; prefill: number }
}

/** What an estimate is made from. */
export interface EstimateInput {
  config: ModelConfig
  contextSize: number
  kvBytesPerToken: number
  weightsBytes: number
  availableBytes: number
  /** Where activations have 16 bits, and keys and values have their memory from the beginning. */
  isOnGpu: boolean
  /** Without those that stand for images and videos. */
  textTokens: number
  maxTokens: number
  /** Answers that are made at once from one prompt. */
  answers: number
  items: readonly MeasuredItem[]
}

/** KV memory is given out in blocks of this many tokens. */
const KV_BLOCK = 32
/** Rows of a piece of work of the tower: `busy_rows` of the native backends. */
const PIECE_ROWS = { cpu: 512, gpu: 2048 } as const
const PATCH_VALUES = 1176
const FLOAT_BYTES = 4
const HALF_BYTES = 2
/** Patches that become one token. */
const MERGED_PATCHES = 4

/** One image or video as the tower sees it. */
interface Shape {
  frames: number
  /** Pairs of frames. */
  slices: number
  /** Patches of a slice, which attend to each other. */
  patches: number
}

/** Estimates a request from the shapes of its images and videos. */
export function estimateRequest(input: EstimateInput): Omit<MemoryEstimate, 'expectedMs'> {
  const shapes = input.items.map(shapeOf)
  const need = needOf(input, shapes)
  const { config, weightsBytes, availableBytes, maxTokens } = input
  const isEnough = fits(input, need)
  const suggestion = isEnough ? undefined : suggestMaxPixels(input, shapes)
  return {
    promptTokens: need.promptTokens,
    maxTokens,
    weightsBytes,
    visionWorkspaceBytes: need.visionBytes,
    kvBytes: need.kvBytes,
    peakBytes: weightsBytes + need.visionBytes + need.kvBytes,
    availableBytes,
    fits: isEnough,
    ...(suggestion !== undefined && { suggestedMaxPixels: suggestion }),
    ...workOf(config, input.items, need.promptTokens),
  }
}

/** The work for a prompt of so many tokens, those of the images and videos among them. */
export function workOf(
  config: ModelConfig,
  items: readonly MeasuredItem[],
  promptTokens: number,
): Work {
  return {
    visionFlops: sum(items.map((item) => towerFlops(config, shapeOf(item)))),
    prefillFlops: prefillFlops(config, promptTokens),
  }
}

function shapeOf(item: MeasuredItem): Shape {
  const [slices, height, width] = item.gridThw
  const frames = item.kind === 'video' ? item.info.frames : 1
  return { frames, slices, patches: height * width }
}

interface Need {
  promptTokens: number
  visionBytes: number
  kvBytes: number
}

function needOf(input: EstimateInput, shapes: readonly Shape[]): Need {
  const { config, textTokens, maxTokens, answers, contextSize, kvBytesPerToken } = input
  const visualTokens = sum(shapes.map(tokensOf))
  const promptTokens = textTokens + visualTokens
  const answer = Math.min(maxTokens, Math.max(contextSize - promptTokens, 0))
  const kvTokens = promptTokens + answers * answer
  // Items go through the tower one after the other; their pixels and tokens wait beside it.
  const pixels = sum(shapes.map(({ frames, patches }) => frames * patches * 14 * 14 * 3))
  const waiting = visualTokens * config.vision.outDim * FLOAT_BYTES
  const workspaceBytes = input.isOnGpu ? workspaceOnGpu : workspaceOnCpu
  const workspace = Math.max(0, ...shapes.map((shape) => workspaceBytes(config, shape)))
  return {
    promptTokens,
    visionBytes: (input.isOnGpu ? 0 : pixels) + waiting + workspace,
    kvBytes: Math.ceil(kvTokens / KV_BLOCK) * KV_BLOCK * kvBytesPerToken,
  }
}

function fits({ contextSize, availableBytes, isOnGpu }: EstimateInput, need: Need): boolean {
  const bytes = need.visionBytes + (isOnGpu ? 0 : need.kvBytes)
  return need.promptTokens < contextSize && (availableBytes === 0 || bytes <= availableBytes)
}

/** Rows of what the tower allocates for one item, as TowerEncoding::allocate() does. */
function towerRows(
  { slices, patches }: Shape,
  most: number,
): { all: number; group: number; piece: number } {
  const all = slices * patches
  const group = patches > most ? patches : Math.min(all, Math.floor(most / patches) * patches)
  return { all, group, piece: Math.min(most, all) }
}

function workspaceOnCpu({ vision }: ModelConfig, shape: Shape): number {
  const { embedDim, mlpDim, numHeads } = vision
  const { all, group, piece } = towerRows(shape, PIECE_ROWS.cpu)
  const angles = all * (embedDim / numHeads)
  const floats =
    all * embedDim +
    group * 4 * embedDim +
    piece * (Math.max(embedDim, PATCH_VALUES) + Math.max(mlpDim, embedDim) + PATCH_VALUES) +
    2 * angles // on the host as well, while they are made
  return floats * FLOAT_BYTES
}

/** Residual stream, angles and patches are fp32, all else has 16 bits. */
function workspaceOnGpu({ vision }: ModelConfig, shape: Shape): number {
  const { embedDim, mlpDim, numHeads } = vision
  const { all, group, piece } = towerRows(shape, PIECE_ROWS.gpu)
  const floats = all * (embedDim + embedDim / numHeads) + piece * PATCH_VALUES
  const halves =
    group * 4 * embedDim +
    // The last: what goes into a product, where it is not there in 16 bits.
    piece * (embedDim + Math.max(mlpDim, embedDim) + Math.max(embedDim, PATCH_VALUES))
  return floats * FLOAT_BYTES + halves * HALF_BYTES
}

function towerFlops({ vision }: ModelConfig, { slices, patches }: Shape): number {
  const { embedDim, mlpDim, depth, outDim } = vision
  const rows = slices * patches
  const block =
    rows * (8 * embedDim ** 2 + 4 * embedDim * mlpDim) + 4 * embedDim * slices * patches ** 2
  const ends = rows * 2 * embedDim * (PATCH_VALUES + MERGED_PATCHES * embedDim + outDim)
  return depth * block + ends
}

function prefillFlops(config: ModelConfig, tokens: number): number {
  const { hiddenSize, intermediateSize, numLayers, numHeads, numKvHeads, vocabSize } = config
  const headDim = hiddenSize / numHeads
  const weights =
    hiddenSize * (2 * hiddenSize + 2 * numKvHeads * headDim) + 3 * hiddenSize * intermediateSize
  // A token sees half of the prompt on average.
  const layer = 2 * tokens * weights + 2 * hiddenSize * tokens ** 2
  return numLayers * layer + 2 * hiddenSize * vocabSize
}

/** The largest area for which all fits; undefined where no useful one does. */
function suggestMaxPixels(input: EstimateInput, shapes: readonly Shape[]): number | undefined {
  const slices = sum(shapes.map((shape) => shape.slices))
  if (slices === 0) return undefined
  const largest = Math.max(...shapes.map(({ patches }) => patches)) / MERGED_PATCHES
  const smallest = DEFAULT_MIN_PIXELS / SIDE_MULTIPLE ** 2
  const shrunk = (tokens: number) =>
    shapes.map((shape) => ({
      ...shape,
      patches: Math.min(shape.patches, tokens * MERGED_PATCHES),
    }))
  // Halving finds the number of tokens of a frame: what fits for one fits for every smaller one.
  let [low, high] = [smallest - 1, largest]
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2)
    if (fits(input, needOf(input, shrunk(middle)))) low = middle
    else high = middle
  }
  return low < smallest ? undefined : low * SIDE_MULTIPLE ** 2
}

function tokensOf({ slices, patches }: Shape): number {
  return (slices * patches) / MERGED_PATCHES
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
