/** What the model has to move and compute at least, from its hyper-parameters. */
import type { ModelConfig } from '../checkpoint/config.js'
import type { Work } from './report.js'

const WEIGHT_BYTES: Readonly<Record<string, number>> = { bf16: 2, fp16: 2, fp32: 4 }

/** Weights that a step of the decoder multiplies with: all layers and the output head. */
export function decoderWeights(config: ModelConfig): number {
  const { hiddenSize, intermediateSize, numLayers, numHeads, numKvHeads, vocabSize } = config
  const headDim = hiddenSize / numHeads
  const layer =
    hiddenSize * (2 * hiddenSize + 2 * numKvHeads * headDim) + 3 * hiddenSize * intermediateSize
  return numLayers * layer + vocabSize * hiddenSize
}

/** The model as it was loaded, as far as work depends on it. */
export interface LoadedModel {
  config: ModelConfig
  /** What the weights are kept as. */
  dtype: string
  kvBytesPerToken: number
}

/**
 * A step that gives a token to each of some sequences: the weights are read once, the keys and values of
 * each sequence for itself.
 *
 * @param context tokens in each sequence's cache.
 */
export function decodeWork(model: LoadedModel, sequences: number, context: number): Work {
  const { config, dtype, kvBytesPerToken } = model
  const weights = decoderWeights(config)
  const attention = 4 * config.hiddenSize * context * config.numLayers
  return {
    bytes: weights * (WEIGHT_BYTES[dtype] ?? 2) + sequences * context * kvBytesPerToken,
    operations: sequences * (2 * weights + attention),
    arithmetic: 'fp32',
  }
}
