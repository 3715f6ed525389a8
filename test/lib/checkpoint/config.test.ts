import { describe, expect, it } from 'vitest'
import { parseConfig, type ModelConfig } from '../../../lib/checkpoint/config.js'
import type { JsonObject } from '../../../lib/checkpoint/files.js'
import { CheckpointError, UnsupportedModelError } from '../../../lib/errors.js'
import { configWith, flatConfig, visionWith } from './folder.js'

/** Through JSON, so that undefined keys are gone. */
function parse(json: object): ModelConfig {
  return parseConfig(JSON.parse(JSON.stringify(json)) as JsonObject, 'config.json').config
}

function failure(json: object): CheckpointError | UnsupportedModelError {
  try {
    parse(json)
  } catch (error) {
    return error as CheckpointError
  }
  return expect.fail('the config was accepted')
}

const expected: ModelConfig = {
  hiddenSize: 64,
  intermediateSize: 96,
  numLayers: 2,
  numHeads: 4,
  numKvHeads: 2,
  vocabSize: 128,
  rmsNormEps: 1e-6,
  ropeTheta: 1e6,
  mropeSection: [2, 3, 3],
  tieWordEmbeddings: true,
  imageTokenId: 125,
  videoTokenId: 126,
  visionStartTokenId: 122,
  visionEndTokenId: 123,
  eosTokenIds: [2],
  maxPositionEmbeddings: 512,
  dtype: 'bf16',
  vision: { depth: 2, embedDim: 32, numHeads: 2, mlpDim: 128, outDim: 64 },
}

const textKeys = [
  'hidden_size',
  'intermediate_size',
  'num_hidden_layers',
  'num_attention_heads',
  'num_key_value_heads',
  'vocab_size',
  'hidden_act',
  'rms_norm_eps',
  'max_position_embeddings',
  'use_sliding_window',
]

/** The layout newer exporters write: the language model's keys in `text_config`. */
function nested(textChanges: Record<string, unknown> = {}, rootChanges = {}): object {
  const entries = Object.entries(flatConfig)
  const text = Object.fromEntries(entries.filter(([key]) => textKeys.includes(key)))
  const root = Object.fromEntries(
    entries.filter(([key]) => !textKeys.includes(key) && !key.startsWith('rope_')),
  )
  const rope_parameters = { rope_type: 'default', rope_theta: 1e6, mrope_section: [2, 3, 3] }
  return {
    ...root,
    text_config: { model_type: 'qwen2_vl_text', ...text, rope_parameters, ...textChanges },
    ...rootChanges,
  }
}

describe('layouts', () => {
  it('reads the flat layout', () => expect(parse(flatConfig)).toEqual(expected))

  it('reads the nested layout', () => expect(parse(nested())).toEqual(expected))

  it('prefers text_config and falls back to the root', () => {
    const json = { ...flatConfig, text_config: { intermediate_size: 192 } }
    expect(parse(json)).toEqual({ ...expected, intermediateSize: 192 })
  })

  it.each([
    [true, undefined, true],
    [undefined, true, true],
    [false, true, true],
    [true, false, true],
    [false, false, false],
    [undefined, undefined, false],
  ])('ties the embeddings for %s at the root and %s in text_config: %s', (root, text, tied) => {
    const json = nested({ tie_word_embeddings: text }, { tie_word_embeddings: root })
    expect(parse(json).tieWordEmbeddings).toBe(tied)
  })

  it.each([
    [{ torch_dtype: 'float16' }, 'fp16'],
    [{ torch_dtype: undefined, dtype: 'float32' }, 'fp32'],
    [{ torch_dtype: 'torch.bfloat16' }, 'bf16'],
    [{ torch_dtype: undefined }, undefined],
    [{ torch_dtype: 'auto' }, undefined],
  ])('reads the data type of %j as %s', (changes, dtype) => {
    expect(parse(configWith(changes)).dtype).toBe(dtype)
  })

  it('reads one eos token, several, or none', () => {
    expect(parse(configWith({ eos_token_id: [2, 1] })).eosTokenIds).toEqual([2, 1])
    expect(parse(configWith({ eos_token_id: undefined })).eosTokenIds).toEqual([])
  })

  it('has as many key/value heads as heads when the file says null', () => {
    expect(parse(configWith({ num_key_value_heads: null })).numKvHeads).toBe(4)
    expect(parse(nested({ num_key_value_heads: null })).numKvHeads).toBe(4)
  })

  it('ignores keys it does not know', () => {
    expect(parse(configWith({ transformers_version: '9', whatever: [{}] }))).toEqual(expected)
  })

  it('takes the defaults of the reference for what is no size', () => {
    const large = configWith({
      hidden_size: 512,
      vocab_size: 152064,
      vision_config: undefined,
      rms_norm_eps: undefined,
      rope_theta: undefined,
      rope_scaling: undefined,
      max_position_embeddings: undefined,
      image_token_id: undefined,
      video_token_id: undefined,
      vision_start_token_id: undefined,
      vision_end_token_id: undefined,
      tie_word_embeddings: undefined,
    })
    expect(parse(large)).toMatchObject({
      rmsNormEps: 1e-5,
      ropeTheta: 1e6,
      mropeSection: [16, 24, 24],
      maxPositionEmbeddings: 32768,
      imageTokenId: 151655,
      videoTokenId: 151656,
      visionStartTokenId: 151652,
      visionEndTokenId: 151653,
      tieWordEmbeddings: false,
      vision: { depth: 32, embedDim: 1280, numHeads: 16, mlpDim: 5120, outDim: 512 },
    })
  })

  it('reads the vision section of re-exported files, which keeps changed keys only', () => {
    const vision_config = { in_chans: 3, model_type: 'qwen2_vl', spatial_patch_size: 14 }
    const json = configWith({
      vision_config,
      rope_scaling: { mrope_section: [2, 3, 3], rope_type: 'default', type: 'default' },
    })
    expect(parse(json).vision).toEqual({
      depth: 32,
      embedDim: 1280,
      numHeads: 16,
      mlpDim: 5120,
      outDim: 64,
    })
  })
})

describe('rotary embedding', () => {
  const section = [2, 3, 3]
  it.each([
    { rope_scaling: { type: 'mrope', mrope_section: section } },
    { rope_scaling: { type: 'default', rope_type: 'default', mrope_section: section } },
    { rope_scaling: { rope_type: 'mrope', mrope_section: section } },
    { rope_scaling: { mrope_section: section } },
    { rope_scaling: undefined, rope_parameters: { rope_type: 'default', mrope_section: section } },
  ])('reads %j', (changes) => {
    expect(parse(configWith(changes))).toEqual(expected)
  })

  it('prefers rope_parameters, and the theta inside it', () => {
    const rope_parameters = { rope_type: 'mrope', rope_theta: 5000, mrope_section: [4, 2, 2] }
    expect(parse(configWith({ rope_parameters }))).toEqual({
      ...expected,
      ropeTheta: 5000,
      mropeSection: [4, 2, 2],
    })
  })

  it.each([
    ['yarn', { rope_scaling: { type: 'yarn', factor: 4, mrope_section: section } }],
    ['linear', { rope_scaling: { rope_type: 'linear', factor: 2 } }],
    ['dynamic', { rope_parameters: { rope_type: 'dynamic', type: 'mrope' } }],
  ])('refuses scaling of type %s', (type, changes) => {
    const error = failure(configWith(changes))
    expect(error).toBeInstanceOf(UnsupportedModelError)
    expect(error.message).toContain(`RoPE scaling of type "${type}"`)
  })

  it.each([
    [[2, 3, 4], /mrope_section is \[2,3,4\]; expected a sum of head_dim \/ 2, 8/],
    [[2, 3], /expected three integers/],
    [[2, 3, 'x'], /mrope_section\[2\] is "x"/],
    [[2.5, 2.5, 3], /mrope_section\[0\] is 2\.5; expected an integer/],
    [[-1, 5, 4], /mrope_section\[0\] is -1/],
  ])('refuses the section %j', (mrope_section, message) => {
    const error = failure(configWith({ rope_scaling: { type: 'mrope', mrope_section } }))
    expect(error.code).toBe('ERR_CHECKPOINT_CONFIG')
    expect(error.message).toMatch(message)
  })
})

describe('other models', () => {
  it('tells Qwen2.5-VL by name', () => {
    const error = failure(configWith({ model_type: 'qwen2_5_vl' })) as UnsupportedModelError
    expect(error).toBeInstanceOf(UnsupportedModelError)
    expect(error.architecture).toBe('qwen2_5_vl')
    expect(error.message).toMatch(/a Qwen2\.5-VL model, the successor of Qwen2-VL with windowed/)
  })

  it.each(['llama', 'qwen2', 'qwen2_vl_text', 'qwen3_vl', '__proto__'])('refuses %s', (type) => {
    const error = failure({ model_type: type }) as UnsupportedModelError
    expect(error).toBeInstanceOf(UnsupportedModelError)
    expect(error.architecture).toBe(type)
    expect(error.message).toMatch(/^config\.json describes (a|the|another) .*model/)
    expect(error.message).toContain(`model_type "${type}"`)
  })

  it('refuses a config without model_type', () => {
    expect(failure(configWith({ model_type: undefined })).message).toMatch(/has no model_type/)
    expect(failure(configWith({ model_type: 2 })).message).toMatch(/model_type is 2; expected/)
  })

  it('refuses a class that does not generate text', () => {
    const error = failure(configWith({ architectures: ['Qwen2VLModel'] })) as UnsupportedModelError
    expect(error).toBeInstanceOf(UnsupportedModelError)
    expect(error.architecture).toBe('Qwen2VLModel')
  })

  it('does without architectures', () => {
    expect(parse(configWith({ architectures: undefined }))).toEqual(expected)
    expect(failure(configWith({ architectures: 'x' })).message).toMatch(/expected an array/)
  })

  it.each([
    [configWith({ use_sliding_window: true }), /sliding-window/],
    [configWith({ layer_types: ['full_attention', 'sliding_attention'] }), /sliding-window/],
    [configWith({ hidden_act: 'gelu' }), /hidden_act is "gelu"; Qwen2-VL uses "silu"/],
    [visionWith({ hidden_act: 'silu' }), /vision_config\.hidden_act is "silu".*"quick_gelu"/],
  ])('refuses a variant that no published checkpoint has (%#)', (json, message) => {
    const error = failure(json)
    expect(error).toBeInstanceOf(UnsupportedModelError)
    expect(error.message).toMatch(message)
  })
})

describe('values that cannot be right', () => {
  it.each([
    'hidden_size',
    'intermediate_size',
    'num_hidden_layers',
    'num_attention_heads',
    'num_key_value_heads',
    'vocab_size',
  ])('fails on a missing %s rather than to guess it', (key) => {
    const error = failure(configWith({ [key]: undefined }))
    expect(error).toBeInstanceOf(CheckpointError)
    expect(error.code).toBe('ERR_CHECKPOINT_CONFIG')
    expect(error.message).toMatch(new RegExp(`has no ${key}, and there is no default`))
    expect(failure(nested({ [key]: undefined })).message).toContain(
      `no text_config.${key} or ${key}`,
    )
    for (const value of [0, -1, 1.5, '64', true, [], {}, 1e18]) {
      const wrong = failure(configWith({ [key]: value }))
      expect(wrong.code).toBe('ERR_CHECKPOINT_CONFIG')
      expect(wrong.message).toContain(`config.json: ${key} is ${JSON.stringify(value)}; expected`)
    }
  })

  it('refuses a number beyond what a double can hold', () => {
    const text = JSON.stringify(flatConfig).replace('"hidden_size":64', '"hidden_size":1e999')
    expect(() => parseConfig(JSON.parse(text) as JsonObject, 'config.json')).toThrow(
      /hidden_size is a number beyond all bounds/,
    )
  })

  it.each([
    [{ num_attention_heads: 3 }, /num_attention_heads is 3; expected a divisor of hidden_size, 64/],
    [{ num_attention_heads: 64, num_key_value_heads: 64 }, /heads of even width, not 1/],
    [{ num_key_value_heads: 3 }, /expected a divisor of num_attention_heads, 4/],
    [{ head_dim: 32 }, /head_dim is 32; expected hidden_size \/ num_attention_heads, 16/],
    [{ rms_norm_eps: -1 }, /rms_norm_eps is -1/],
    [{ rms_norm_eps: '1e-6' }, /rms_norm_eps is "1e-6"; expected a number/],
    [{ rope_theta: 0 }, /rope_theta is 0/],
    [{ max_position_embeddings: 0 }, /max_position_embeddings is 0/],
    [{ tie_word_embeddings: 'yes' }, /tie_word_embeddings is "yes"; expected true or false/],
    [{ image_token_id: 128 }, /image_token_id is 128; expected an id below vocab_size, 128/],
    [{ video_token_id: undefined }, /video_token_id is 151656; expected an id below vocab_size/],
    [{ vision_start_token_id: -1 }, /vision_start_token_id is -1/],
    [{ eos_token_id: 'x' }, /eos_token_id is "x"/],
    [{ eos_token_id: [1, 0.5] }, /eos_token_id\[1\] is 0\.5/],
    [{ vision_config: 3 }, /vision_config is 3; expected an object/],
    [{ text_config: [] }, /text_config is \[\]; expected an object/],
    [{ rope_scaling: 'mrope' }, /rope_scaling is "mrope"; expected an object/],
  ])('refuses %j', (changes, message) => {
    const error = failure(configWith(changes))
    expect(error.code).toBe('ERR_CHECKPOINT_CONFIG')
    expect(error.message).toMatch(message)
  })

  it.each([
    [{ in_chans: 1 }, /vision_config\.in_chans is 1; expected 3/],
    [{ in_channels: 4 }, /vision_config\.in_channels is 4; expected 3/],
    [{ patch_size: 16 }, /vision_config\.patch_size is 16; expected 14/],
    [{ spatial_merge_size: 1 }, /spatial_merge_size is 1; expected 2/],
    [{ temporal_patch_size: 1 }, /temporal_patch_size is 1; expected 2/],
    [{ hidden_size: 3584 }, /vision_config\.hidden_size is 3584; expected 64/],
    [{ depth: 0 }, /vision_config\.depth is 0/],
    [{ embed_dim: 36 }, /num_heads is 2; expected heads whose width is a multiple of 4/],
    [{ num_heads: 0 }, /vision_config\.num_heads is 0/],
    [{ mlp_ratio: 0 }, /vision_config\.mlp_ratio is 0/],
    [{ mlp_ratio: 1e9 }, /vision_config\.mlp_ratio is 1000000000/],
  ])('refuses a vision tower with %j', (changes, message) => {
    const error = failure(visionWith(changes))
    expect(error.code).toBe('ERR_CHECKPOINT_CONFIG')
    expect(error.message).toMatch(message)
  })
})
