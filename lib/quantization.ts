/** What quantising the weights while they are read is asked for with, and what it saves. */
import type { ModelConfig } from './checkpoint/config.js'

/** The options of loadModel() about quantisation. */
export interface QuantizationOptions {
  quantization?: 'none' | 'int8' | 'int4' | undefined
  visionQuantization?: 'none' | 'int8' | undefined
  activations?: 'fp32' | 'int8' | undefined
}

/** The same with the defaults filled in. */
export interface Quantization {
  /** Of the decoder: its layers in so many bits, its embedding table and head in 8. */
  quantization: 'none' | 'int8' | 'int4'
  /** Of the vision tower's linear layers. */
  visionQuantization: 'none' | 'int8'
  /** What quantised weights are multiplied with. */
  activations: 'fp32' | 'int8'
}

export function quantizationOf({
  quantization = 'none',
  visionQuantization = 'none',
  activations = 'fp32',
}: QuantizationOptions): Quantization {
  return { quantization, visionQuantization, activations }
}

/** How the decoder's matrices of an AWQ or GPTQ checkpoint are stored, and stay. */
export interface StoredQuantization {
  method: 'awq' | 'gptq'
  bits: 4 | 8
  /** Inputs that share a scale; -1: all of a row. */
  groupSize: number
}

/** Undefined for a checkpoint of bf16, fp16 or fp32 weights. */
export function storedQuantizationOf(config: ModelConfig): StoredQuantization | undefined {
  if (config.storedQuantization === undefined) return undefined
  const { method, bits, groupSize } = config.storedQuantization
  return { method, bits, groupSize: groupSize === 0 ? -1 : groupSize }
}

/** Bytes of the decoder's matrices that are stored quantised, as good as exactly; 0 where none are. */
export function bytesStoredQuantized(config: ModelConfig): number {
  const stored = config.storedQuantization
  if (stored === undefined) return 0
  const { bits, groupSize } = stored
  const zeroAndScale = bits / 8 + 2
  return numbersOf(config).layers * (bits / 8 + (groupSize && zeroAndScale / groupSize))
}

/** Codes, and 16-bit scales for groups of 128 or 32 of them. */
const bytesOfANumber = { int8: 1 + 2 / 128, int4: 0.5 + 2 / 32 }

/**
 * How many bytes fewer the weights take when matrices are quantised that would take
 * `bytesPerNumber` otherwise.
 */
export function bytesSaved(
  config: ModelConfig,
  options: QuantizationOptions,
  bytesPerNumber: number,
): number {
  const { quantization, visionQuantization } = quantizationOf(options)
  const { layers, tables, vision } = numbersOf(config)
  const saved = (numbers: number, mode: 'none' | 'int8' | 'int4') =>
    mode === 'none' ? 0 : numbers * (bytesPerNumber - bytesOfANumber[mode])
  return (
    saved(config.storedQuantization ? 0 : layers, quantization) +
    saved(tables, quantization === 'none' ? 'none' : 'int8') +
    saved(vision, visionQuantization)
  )
}

/** How many numbers the matrices hold that may be quantised. */
function numbersOf(config: ModelConfig) {
  const { hiddenSize, intermediateSize, numLayers, numHeads, numKvHeads, vision } = config
  const qkv = hiddenSize + 2 * numKvHeads * (hiddenSize / numHeads)
  const merged = 4 * vision.embedDim
  return {
    layers: numLayers * hiddenSize * (qkv + hiddenSize + 3 * intermediateSize),
    tables: config.vocabSize * hiddenSize * (config.tieWordEmbeddings ? 1 : 2),
    vision:
      vision.depth * vision.embedDim * (4 * vision.embedDim + 2 * vision.mlpDim) +
      merged * (merged + vision.outDim),
  }
}
