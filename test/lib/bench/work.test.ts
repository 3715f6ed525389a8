import { describe, expect, it } from 'vitest'
import { decodeWork, prefillWork, visionWork, type LoadedModel } from '../../../lib/bench/work.js'
import { parseConfig } from '../../../lib/checkpoint/config.js'

// The sizes of Qwen2-VL-2B: 1,310.2 M weights in the layers, 233.4 M in the output head.
const { config } = parseConfig(
  {
    ...{ architectures: ['Qwen2VLForConditionalGeneration'], model_type: 'qwen2_vl' },
    ...{ hidden_size: 1536, intermediate_size: 8960, num_hidden_layers: 28, vocab_size: 151936 },
    ...{ num_attention_heads: 12, num_key_value_heads: 2, rms_norm_eps: 1e-6, rope_theta: 1e6 },
    ...{ rope_scaling: { type: 'mrope', mrope_section: [16, 24, 24] }, tie_word_embeddings: true },
    vision_config: { depth: 32, embed_dim: 1280, num_heads: 16, mlp_ratio: 4, hidden_size: 1536 },
  },
  'config.json',
)

function loaded(changes: Partial<LoadedModel['quantization']> = {}): LoadedModel {
  const none = { quantization: 'none', visionQuantization: 'none', activations: 'fp32' } as const
  return { config, dtype: 'bf16', quantization: { ...none, ...changes }, kvBytesPerToken: 57344 }
}

describe('decodeWork()', () => {
  it('reads every weight once, and the cache of each sequence', () => {
    expect(decodeWork(loaded(), 1, 0).bytes).toBeCloseTo(3.087e9, -6)
    expect(decodeWork(loaded(), 8, 0).bytes).toBeCloseTo(3.087e9, -6)
    expect(decodeWork(loaded(), 8, 1000).bytes - decodeWork(loaded(), 8, 0).bytes).toBe(
      8 * 1000 * 57344,
    )
  })

  it('reads less where the weights are quantised', () => {
    expect(decodeWork(loaded({ quantization: 'int8' }), 1, 0).bytes).toBeCloseTo(1.568e9, -6)
    expect(decodeWork(loaded({ quantization: 'int4' }), 1, 0).bytes).toBeCloseTo(0.974e9, -6)
  })

  it('computes for every sequence', () => {
    expect(decodeWork(loaded(), 4, 0)).toMatchObject({
      fp32: expect.closeTo(4 * 3.087e9, -7) as number,
      int8: 0,
    })
  })
})

describe('prefillWork() and visionWork()', () => {
  it('are all of fp32 where weights or activations are no integers', () => {
    for (const model of [loaded(), loaded({ quantization: 'int8' })]) {
      expect(prefillWork(model, 512, 1.4e12)).toEqual({ bytes: 0, fp32: 1.4e12, int8: 0 })
      expect(visionWork(model, 1024, 1.5e12)).toEqual({ bytes: 0, fp32: 1.5e12, int8: 0 })
    }
  })

  it('leave attention in fp32 where the linear layers sum integers', () => {
    const modes = { quantization: 'int4', visionQuantization: 'int8', activations: 'int8' } as const
    const attention = { prefill: 2 * 28 * 1536 * 512 ** 2, vision: 4 * 32 * 1280 * 1024 ** 2 }
    expect(prefillWork(loaded(modes), 512, 1.4e12)).toEqual({
      ...{ bytes: 0, fp32: attention.prefill, int8: 1.4e12 - attention.prefill },
    })
    expect(visionWork(loaded(modes), 1024, 1.5e12)).toEqual({
      ...{ bytes: 0, fp32: attention.vision, int8: 1.5e12 - attention.vision },
    })
  })
})
