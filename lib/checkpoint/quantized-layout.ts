/** The tensors in which AWQ and GPTQ checkpoints store a linear layer's matrix. */
import type { NativeStoredQuantization } from '../native.js'
import type { PlannedTensor } from './safetensors-writer.js'

/** A linear layer's matrix, [outFeatures, inFeatures] where it is not quantised. */
export interface LinearLayer {
  /** Without the last part: `model.layers.0.mlp.down_proj`. */
  module: string
  outFeatures: number
  inFeatures: number
}

/** How many groups of inputs have scales of their own. */
export function groupsOf(layer: LinearLayer, { groupSize }: NativeStoredQuantization): number {
  return groupSize === 0 ? 1 : Math.ceil(layer.inFeatures / groupSize)
}

/** `qweight`, `qzeros` and `scales`, in this order; of GPTQ also `g_idx`. */
export function quantizedTensors(
  layer: LinearLayer,
  format: NativeStoredQuantization,
): PlannedTensor[] {
  const { module, outFeatures, inFeatures } = layer
  const perWord = 32 / format.bits
  const groups = groupsOf(layer, format)
  const isAwq = format.method === 'awq'
  const weightShape = isAwq ? [inFeatures, outFeatures / 8] : [inFeatures / perWord, outFeatures]
  const tensors = [
    { name: `${module}.qweight`, dtype: 'I32', shape: weightShape },
    { name: `${module}.qzeros`, dtype: 'I32', shape: [groups, outFeatures / perWord] },
    { name: `${module}.scales`, dtype: 'F16', shape: [groups, outFeatures] },
  ]
  return isAwq
    ? tensors
    : [...tensors, { name: `${module}.g_idx`, dtype: 'I32', shape: [inFeatures] }]
}

/** The group of every input, in order. */
export function groupIndex(
  { inFeatures }: LinearLayer,
  { groupSize }: NativeStoredQuantization,
): Int32Array {
  return Int32Array.from({ length: inFeatures }, (_, input) =>
    groupSize === 0 ? 0 : Math.floor(input / groupSize),
  )
}

/** What `config.json` says of such a checkpoint, with the keys of the published ones. */
export function quantizationConfig(format: NativeStoredQuantization): Record<string, unknown> {
  const groupSize = format.groupSize === 0 ? -1 : format.groupSize
  if (format.method === 'awq') {
    return {
      quant_method: 'awq',
      bits: format.bits,
      group_size: groupSize,
      zero_point: true,
      version: 'gemm',
      modules_to_not_convert: ['visual'],
    }
  }
  return {
    quant_method: 'gptq',
    bits: format.bits,
    group_size: groupSize,
    desc_act: false,
    sym: true,
    checkpoint_format: format.zerosLessOne ? 'gptq' : 'gptq_v2',
  }
}
