import { describe, expect, it } from 'vitest'
import { openCheckpoint } from '../../../lib/checkpoint/checkpoint.js'
import { UnsupportedModelError } from '../../../lib/errors.js'
import { storedQuantizationOf } from '../../../lib/quantization.js'
import { checkpointFolder, configWith } from './folder.js'

/** As the published checkpoints have them. */
const awq = {
  quant_method: 'awq',
  bits: 4,
  group_size: 128,
  zero_point: true,
  version: 'gemm',
  modules_to_not_convert: ['visual'],
}
const gptq = {
  quant_method: 'gptq',
  bits: 4,
  group_size: 128,
  damp_percent: 0.1,
  dataset: null,
  desc_act: false,
  modules_in_block_to_quantize: null,
  sym: true,
  true_sequential: true,
}

const autoRound = { quant_method: 'intel/auto-round', bits: 4, group_size: 128, sym: true }

async function stored(files: Record<string, object>) {
  const { config } = await openCheckpoint(await checkpointFolder(files))
  return config.storedQuantization
}

const inConfig = (quantization_config: unknown) =>
  stored({ 'config.json': configWith({ quantization_config }) })

describe('recognised are', () => {
  it.each([
    [awq, { method: 'awq', bits: 4, groupSize: 128, zerosLessOne: false }],
    [{ ...awq, version: 'GEMM', group_size: 32 }, { groupSize: 32 }],
    [{ quant_method: 'awq', w_bit: 4, q_group_size: 64 }, { groupSize: 64 }],
    [gptq, { method: 'gptq', bits: 4, groupSize: 128, zerosLessOne: true }],
    [
      { ...gptq, bits: 8, checkpoint_format: 'gptq' },
      { bits: 8, zerosLessOne: true },
    ],
    [{ ...gptq, checkpoint_format: 'gptq_v2' }, { zerosLessOne: false }],
    [{ ...gptq, group_size: -1, desc_act: true, use_exllama: false }, { groupSize: 0 }],
    [gptq, { needsGroupIndex: false }],
    [{ ...gptq, desc_act: true }, { needsGroupIndex: true }],
    [{ ...gptq, desc_act: true, static_groups: true }, { needsGroupIndex: false }],
    [{ ...gptq, desc_act: true, group_size: -1 }, { needsGroupIndex: false }],
    [{ ...gptq, format: 'gptq_v2' }, { zerosLessOne: false }],
    [{ ...awq, version: undefined, checkpoint_format: 'gemm' }, { method: 'awq' }],
    [{ ...gptq, dynamic: { '-:.*visual.*': {}, '+:.*down.*': { bits: 4 } } }, { bits: 4 }],
    [
      { ...autoRound, backend: 'auto_round:gptq:exllamav2' },
      { method: 'gptq', zerosLessOne: true },
    ],
    [
      { ...autoRound, packing_format: 'auto_round:auto_awq' },
      { method: 'awq', zerosLessOne: false },
    ],
  ])('%j', async (config, expected) => {
    expect(await inConfig(config)).toMatchObject(expected)
  })

  it('the nested layout of config.json', async () => {
    const { vision_config, ...text_config } = configWith({ quantization_config: gptq }) as {
      vision_config: object
    }
    const nested = { model_type: 'qwen2_vl', text_config, vision_config }
    expect(await stored({ 'config.json': nested })).toMatchObject({ method: 'gptq' })
  })

  it('the files of older quantisers, where config.json does not say it', async () => {
    const { quant_method, ...older } = gptq
    expect(quant_method).toBe('gptq')
    expect(await stored({ 'quantize_config.json': older })).toMatchObject({ method: 'gptq' })
    const awqFile = { zero_point: true, q_group_size: 64, w_bit: 4, version: 'GEMM' }
    expect(await stored({ 'quant_config.json': awqFile })).toMatchObject({
      method: 'awq',
      groupSize: 64,
    })
    const both = {
      'config.json': configWith({ quantization_config: awq }),
      'quantize_config.json': older,
    }
    expect(await stored(both)).toMatchObject({ method: 'awq' })
  })

  it('checkpoints that are not quantised', async () => {
    expect(await stored({})).toBeUndefined()
    expect(await inConfig(null)).toBeUndefined()
  })
})

describe('refused by their names are', () => {
  it.each([
    [{ quant_method: 'bitsandbytes', load_in_4bit: true }, /quant_method "bitsandbytes"/],
    [{ bits: 8 }, /quant_method "unknown"/],
    [{ ...awq, bits: 8 }, /"awq" with bits 8/],
    [{ ...gptq, bits: 3 }, /"gptq" with bits 3/],
    [{ ...gptq, bits: undefined }, /"gptq" with bits nothing/],
    [{ ...gptq, bits: '4' }, /"gptq" with bits "4"/],
    [{ ...awq, group_size: 16 }, /"awq" with group_size 16/],
    [{ ...gptq, group_size: 1024 }, /"gptq" with group_size 1024/],
    [{ ...awq, version: 'gemv' }, /AWQ of version "gemv"/],
    [{ ...gptq, checkpoint_format: 'marlin' }, /checkpoint_format "marlin"/],
    [{ ...gptq, is_marlin_format: true }, /Marlin/],
    [{ ...gptq, format: 'bitblas' }, /checkpoint_format "bitblas"/],
    [{ ...awq, version: undefined, format: 'gemv_fast' }, /AWQ of version "gemv_fast"/],
    [{ ...gptq, dynamic: { '+:.*down.*': { bits: 8 } } }, /other sizes for "\+:\.\*down\.\*"/],
    [{ ...gptq, dynamic: { '.*q_proj': { group_size: 32 } } }, /other sizes for "\.\*q_proj"/],
    [{ ...autoRound, backend: 'auto_round:exllamav2' }, /quant_method "intel\/auto-round"/],
    [autoRound, /quant_method "intel\/auto-round"/],
  ])('%j', async (config, message) => {
    const error: unknown = await inConfig(config).catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(UnsupportedModelError)
    expect((error as Error).message).toMatch(message)
    expect((error as Error).message).toMatch(/config\.json .* AWQ \(4 bits.*use such a checkpoint/s)
  })

  it('values that are no objects', async () => {
    await expect(inConfig('awq')).rejects.toThrow(
      /quantization_config is "awq"; expected an object/,
    )
  })
})

it('is told with -1 for a scale a row, as the files write it', async () => {
  const { config } = await openCheckpoint(
    await checkpointFolder({
      'config.json': configWith({ quantization_config: { ...gptq, group_size: -1 } }),
    }),
  )
  expect(storedQuantizationOf(config)).toEqual({ method: 'gptq', bits: 4, groupSize: -1 })
})
