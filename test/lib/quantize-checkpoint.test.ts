/** The bundled checkpoint made an AWQ and a GPTQ one: what is written, what it loses, what is refused. */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openCheckpoint, toNativeConfig } from '../../lib/checkpoint/checkpoint.js'
import { InvalidArgumentError } from '../../lib/errors.js'
import { loadModel } from '../../lib/load-model.js'
import type { NativeLoadOptions } from '../../lib/native.js'
import { nativeBinding } from '../../lib/native.js'
import {
  quantizeCheckpoint,
  type QuantizeCheckpointOptions,
  type QuantizeProgress,
} from '../../lib/quantize-checkpoint.js'
import {
  answersRight,
  distributions,
  divergence,
  samplePrompts,
} from './generation/quantization-loss.js'
import { tinyFolder } from './generation/tiny-samples.js'

const formats = {
  awq: { format: 'awq', groupSize: 32 },
  'gptq-int8': { format: 'gptq-int8' },
} as const

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'qwen2-vl-quantize-'))
  for (const [name, options] of Object.entries(formats)) {
    await quantizeCheckpoint('tiny', { ...options, out: join(folder, name) })
  }
})
afterAll(() => rm(folder, { recursive: true, force: true }))

describe('the folder', () => {
  it('has the configuration and the tensors of published AWQ checkpoints', async () => {
    const awq = join(folder, 'awq')
    const config = JSON.parse(await readFile(join(awq, 'config.json'), 'utf8')) as object
    expect(config).toMatchObject({
      model_type: 'qwen2_vl',
      quantization_config: { quant_method: 'awq', bits: 4, group_size: 32, version: 'gemm' },
    })
    const { weightFiles } = await openCheckpoint(awq)
    const table = await nativeBinding().readTensorTable(weightFiles)
    const find = (name: string) => table.find((tensor) => tensor.name === name)
    const down = 'model.layers.0.mlp.down_proj'
    expect(find(`${down}.weight`)).toBeUndefined()
    expect(find(`${down}.qweight`)).toMatchObject({ dtype: 'I32', shape: [576, 32] })
    expect(find(`${down}.qzeros`)).toMatchObject({ dtype: 'I32', shape: [18, 32] })
    expect(find(`${down}.scales`)).toMatchObject({ dtype: 'F16', shape: [18, 256] })
    expect(find('visual.blocks.0.attn.qkv.weight')?.dtype).toBe('BF16')
    expect(find('model.layers.0.self_attn.q_proj.bias')?.dtype).toBe('BF16')
  })

  it('has those of published GPTQ checkpoints', async () => {
    const { weightFiles, config } = await openCheckpoint(join(folder, 'gptq-int8'))
    expect(config.storedQuantization).toEqual({
      method: 'gptq',
      bits: 8,
      groupSize: 128,
      zerosLessOne: true,
      needsGroupIndex: false,
    })
    const table = await nativeBinding().readTensorTable(weightFiles)
    const find = (name: string) => table.find((tensor) => tensor.name === name)
    const down = 'model.layers.0.mlp.down_proj'
    expect(find(`${down}.qweight`)).toMatchObject({ dtype: 'I32', shape: [144, 256] })
    expect(find(`${down}.qzeros`)).toMatchObject({ dtype: 'I32', shape: [5, 64] })
    expect(find(`${down}.g_idx`)).toMatchObject({ dtype: 'I32', shape: [576] })
  })

  it('keeps every other file of the checkpoint', async () => {
    const names = await readdir(join(folder, 'awq'))
    const isFile = /\.(json|txt|md)$/
    expect(names.filter((name) => isFile.test(name)).sort()).toEqual(
      (await readdir(tinyFolder)).filter((name) => isFile.test(name)).sort(),
    )
  })

  it('is loaded as it is, and model.info says how it is stored', async () => {
    await using model = await loadModel(join(folder, 'awq'))
    await using plain = await loadModel('tiny')
    expect(model.info.storedQuantization).toEqual({ method: 'awq', bits: 4, groupSize: 32 })
    expect(plain.info.storedQuantization).toBeUndefined()
    expect(model.info.parameters).toBe(plain.info.parameters)
    expect(model.info.weightBytes).toBeLessThan(plain.info.weightBytes)
    const messages = [{ role: 'user' as const, content: 'What is 2 plus 3?' }]
    const { text } = await model.generate({ messages, maxTokens: 16 })
    expect(text).toBe('2 + 3 = 5.')
  })

  it('cannot be mapped', async () => {
    await expect(loadModel(join(folder, 'awq'), { weights: 'mapped' })).rejects.toThrow(
      /stored quantised.*weights: 'packed'/s,
    )
  })
})

describe('the loss', () => {
  let prompts: Awaited<ReturnType<typeof samplePrompts>>
  let exact: Awaited<ReturnType<typeof distributions>>
  beforeAll(async () => {
    prompts = await samplePrompts()
    exact = await distributions({}, prompts)
  })

  const loadOptions = async (name: string): Promise<Partial<NativeLoadOptions>> => {
    const checkpoint = await openCheckpoint(join(folder, name))
    return { weightFiles: checkpoint.weightFiles, config: toNativeConfig(checkpoint) }
  }

  // About twice what docs/performance.md says was measured.
  it.each([
    ['awq', {}, 2.4e-4],
    ['awq', { activations: 'int8' }, 2.8e-4],
    ['gptq-int8', {}, 5e-6],
    ['gptq-int8', { activations: 'int8' }, 4e-5],
  ] as const)(
    'of %s with %j is bounded, and every sample is still answered rightly',
    async (name, changes, bound) => {
      const options = { ...(await loadOptions(name)), ...changes }
      const { mean } = divergence(exact, await distributions(options, prompts))
      expect(mean).toBeGreaterThan(1e-8) // something was rounded
      expect(mean).toBeLessThan(bound)
      expect(await answersRight(options, prompts)).toBe(1)
    },
  )
})

describe('quantizeCheckpoint()', () => {
  const out = () => join(folder, 'other')
  const attempt = (options: Partial<QuantizeCheckpointOptions>, source = 'tiny') =>
    quantizeCheckpoint(source, { format: 'awq', groupSize: 32, out: out(), ...options })

  it('reports its progress and what it wrote', async () => {
    const seen: QuantizeProgress[] = []
    const result = await attempt({ onProgress: (progress) => seen.push(progress) })
    expect(result).toMatchObject({ folder: out(), matrices: 4 * 7 })
    expect(result.weightBytes).toBeLessThan(result.sourceBytes)
    expect(seen.length).toBeGreaterThan(100)
    expect(seen.at(-1)).toEqual({ readBytes: result.sourceBytes, totalBytes: result.sourceBytes })
    await rm(out(), { recursive: true })
  })

  it.each<[string, Partial<QuantizeCheckpointOptions>, RegExp]>([
    ['a folder that exists', { out: tinyFolder }, /exists, and nothing is overwritten/],
    ['groups that do not divide a row', { groupSize: 128 }, /576 inputs.*groups of 128.*64 or 32/s],
    ['another format', { format: 'int4' as never }, /format must be/],
  ])('refuses %s', async (_, options, message) => {
    const error: unknown = await attempt(options).catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(InvalidArgumentError)
    expect((error as Error).message).toMatch(message)
  })

  it('refuses a checkpoint that is quantised already', async () => {
    await expect(attempt({}, join(folder, 'awq'))).rejects.toThrow(
      /quantised already \(awq, 4 bits\)/,
    )
  })

  it('leaves nothing behind when it is aborted or its callback fails', async () => {
    const before = await readdir(folder)
    const controller = new AbortController()
    const reason = new Error('enough')
    const aborted = attempt({
      signal: controller.signal,
      onProgress: () => controller.abort(reason),
    })
    await expect(aborted).rejects.toBe(reason)
    const failed = attempt({
      onProgress: () => {
        throw reason
      },
    })
    await expect(failed).rejects.toBe(reason)
    expect(await readdir(folder)).toEqual(before)
  })
})
