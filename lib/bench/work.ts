/** What the model has to move and compute at least, from its hyper-parameters. */
import type { ModelConfig } from '../checkpoint/config.js'
import type { Work } from './report.js'

/** The model as it was loaded, as far as work depends on it. */
export interface LoadedModel {
  config: ModelConfig
  /** What the weights are kept as. */
  dtype: string
  kvBytesPerToken: number
}

const WEIGHT_BYTES: Readonly<Record<string, number>> = { bf16: 2, fp16: 2, fp32: 4 }

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
  const { config, dtype, kvBytesPerToken } = model
  const { layers, head } = decoderWeights(config)
  const attention = 4 * config.hiddenSize * context * config.numLayers
  return {
    bytes: (layers + head) * (WEIGHT_BYTES[dtype] ?? 2) + sequences * context * kvBytesPerToken,
    fp32: sequences * (2 * (layers + head) + attention),
    int8: 0,
  }
}
