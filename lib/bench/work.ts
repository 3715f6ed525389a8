/** What the model has to move and compute at least, from its hyper-parameters. */
import type { ModelConfig } from '../checkpoint/config.js'
import { bytesStoredQuantized, type Quantization } from '../quantization.js'
import type { Work } from './report.js'

/** The model as it was loaded, as far as work depends on it. */
export interface LoadedModel {
  config: ModelConfig
  /** What weights that are not quantised are kept as. */
  dtype: string
  quantization: Quantization
  kvBytesPerToken: number
}

/** Of a weight with its share of the scales. */
const WEIGHT_BYTES: Readonly<Record<string, number>> = {
  ...{ bf16: 2, fp16: 2, fp32: 4 },
  ...{ int8: 1 + 2 / 128, int4: 0.5 + 2 / 32 },
}

/** Weights that every row of the decoder is multiplied with. */
function decoderWeights(config: ModelConfig): { layers: number; head: number } {
  const { hiddenSize, intermediateSize, numLayers, numHeads, numKvHeads, vocabSize } = config
  const headDim = hiddenSize / numHeads
  const layer =
    hiddenSize * (2 * hiddenSize + 2 * numKvHeads * headDim) + 3 * hiddenSize * intermediateSize
  return { layers: numLayers * layer, head: vocabSize * hiddenSize }
}

/**
 * A step that gives a token to each of some sequences: the weights are read once, the keys and values of
 * each sequence for itself.
 *
 * @param context tokens in each sequence's cache.
 */
export function decodeWork(model: LoadedModel, sequences: number, context: number): Work {
  const { config, dtype, quantization, kvBytesPerToken } = model
  const { layers, head } = decoderWeights(config)
  const mode = quantization.quantization
  const layerBytes =
    bytesStoredQuantized(config) / layers || (WEIGHT_BYTES[mode === 'none' ? dtype : mode] ?? 2)
  const headBytes = WEIGHT_BYTES[mode === 'none' ? dtype : 'int8'] ?? 2
  const attention = 4 * config.hiddenSize * context * config.numLayers * sequences
  return {
    bytes: layers * layerBytes + head * headBytes + sequences * context * kvBytesPerToken,
    ...split(2 * sequences * (layers + head), attention, hasIntegerRows(model)),
  }
}

/** @param flops of the whole prompt. */
export function prefillWork(model: LoadedModel, tokens: number, flops: number): Work {
  const { numLayers, hiddenSize } = model.config
  const attention = 2 * numLayers * hiddenSize * tokens ** 2
  return { bytes: 0, ...split(flops - attention, attention, hasIntegerRows(model)) }
}

/** @param flops of the whole image of so many patches. */
export function visionWork(
  { config, quantization }: LoadedModel,
  patches: number,
  flops: number,
): Work {
  const attention = 4 * config.vision.depth * config.vision.embedDim * patches ** 2
  const isInteger =
    quantization.visionQuantization !== 'none' && quantization.activations === 'int8'
  return { bytes: 0, ...split(flops - attention, attention, isInteger) }
}

/** The decoder's products sum integers only where the activations are integers as well. */
function hasIntegerRows({ config, quantization }: LoadedModel): boolean {
  const isQuantized =
    quantization.quantization !== 'none' || config.storedQuantization !== undefined
  return isQuantized && quantization.activations === 'int8'
}

function split(linear: number, attention: number, isInteger: boolean): Omit<Work, 'bytes'> {
  return isInteger ? { fp32: attention, int8: linear } : { fp32: linear + attention, int8: 0 }
}
