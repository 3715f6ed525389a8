import { describe, expect, it } from 'vitest'
import { formats, models, predict } from '../../../lib/bench/decode-model.js'
import { modelledStep, type GpuUnderTest } from '../../../lib/bench/gpu-under-test.js'
import { gpus } from '../../../lib/bench/gpus.js'
import type { LoadedModel } from '../../../lib/bench/work.js'
import type { ModelConfig } from '../../../lib/checkpoint/config.js'

const a100: GpuUnderTest = { ordinal: 0, gpu: gpus.a100, instructions: new Map() }
const [two] = models

function loaded(quantization: 'none' | 'int8' | 'int4'): LoadedModel {
  return {
    config: {
      ...{ numLayers: 28, hiddenSize: 1536, intermediateSize: 8960, numHeads: 12, numKvHeads: 2 },
      vocabSize: 151936,
    } as ModelConfig,
    dtype: 'bf16',
    quantization: { quantization, visionQuantization: 'none', activations: 'fp32' },
    kvBytesPerToken: 28672,
  }
}

describe('modelledStep()', () => {
  it('is the prediction of docs/kernels.md where sizes and context are those', () => {
    const { milliseconds } = predict(two!, 'bf16', gpus.a100, () => undefined)
    expect(modelledStep(a100, loaded('none'), 2048)).toBeCloseTo(milliseconds / 1e3, 9)
  })

  it('grows with the context and falls with the bits of a weight', () => {
    const seconds = (quantization: 'none' | 'int8' | 'int4', context = 2048) =>
      modelledStep(a100, loaded(quantization), context) ?? NaN
    expect(seconds('none', 8192)).toBeGreaterThan(seconds('none'))
    expect(seconds('int8')).toBeLessThan(seconds('none'))
    expect(seconds('int4')).toBeLessThan(seconds('int8'))
  })

  it('counts the instructions of kernels that are known', () => {
    const heavy = new Map([[formats.bf16.kernel('swiglu'), 100]])
    expect(modelledStep({ ...a100, instructions: heavy }, loaded('none'), 2048)).toBeGreaterThan(
      2 * (modelledStep(a100, loaded('none'), 2048) ?? NaN),
    )
  })

  it('is nothing for a GPU without rates', () => {
    const gpu = { ...gpus.a100, bandwidth: 0 }
    expect(modelledStep({ ...a100, gpu }, loaded('none'), 2048)).toBeUndefined()
  })
})
