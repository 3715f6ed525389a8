/** Weights of 8 and 4 bits on device 'cuda' answer as they do on the CPU, however they became so. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadModel, quantizeCheckpoint, type LoadModelOptions } from '../../lib/index.js'
import { nativeBinding } from '../../lib/native.js'
import { requestOf, sampleOf } from '../lib/generation/tiny-samples.js'

/** Text and a picture. */
const few = ['ocr-hello', 'text-math']
/** Also pictures of odd sizes, several pictures, a video, several turns. */
const all = [...few, 'exists', 'two-images-same', 'video-direction', 'multi-turn-turn3']

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'qwen2-vl-cuda-'))
  await quantizeCheckpoint('tiny', { format: 'awq', groupSize: 32, out: join(folder, 'awq') })
  await quantizeCheckpoint('tiny', { format: 'awq', groupSize: 64, out: join(folder, 'awq-64') })
  await quantizeCheckpoint('tiny', { format: 'gptq-int8', out: join(folder, 'gptq-int8') })
})
afterAll(() => rm(folder, { recursive: true, force: true }))

async function answers(source: string, options: LoadModelOptions, ids: string[]) {
  await using model = await loadModel(source, options)
  const ask = async (id: string) => (await model.generate(requestOf(sampleOf(id)))).tokenIds
  return await Promise.all(ids.map(ask))
}

describe('the answers on CUDA', () => {
  it.each<[string, string, LoadModelOptions, string[]]>([
    ['an AWQ checkpoint', 'awq', {}, all],
    ['an AWQ checkpoint with groups of 64', 'awq-64', {}, few],
    ['an AWQ checkpoint in fp16', 'awq', { dtype: 'fp16' }, few],
    ['an AWQ checkpoint and 8-bit tables', 'awq', { quantization: 'int8' }, few],
    ['a GPTQ-Int8 checkpoint', 'gptq-int8', {}, all],
    ['weights made 8-bit', 'tiny', { quantization: 'int8', visionQuantization: 'int8' }, all],
    ['weights made 4-bit', 'tiny', { quantization: 'int4' }, few],
  ])("with %s are the CPU's", async (_, name, options, ids) => {
    const source = name === 'tiny' ? name : join(folder, name)
    const onCuda = await answers(source, { ...options, device: 'cuda' }, ids)
    expect(onCuda).toEqual(await answers(source, { ...options, device: 'cpu' }, ids))
  })
})

describe('a quantised model on CUDA', () => {
  it('says what it is and how large', async () => {
    await using onCuda = await loadModel(join(folder, 'awq'), { device: 'cuda' })
    await using onCpu = await loadModel(join(folder, 'awq'), { device: 'cpu' })
    expect(onCuda.info).toMatchObject({
      device: { kind: 'cuda' },
      dtype: 'bf16',
      storedQuantization: { method: 'awq', bits: 4, groupSize: 32 },
      weightBytes: onCpu.info.weightBytes,
      parameters: onCpu.info.parameters,
    })
  })

  it('leaves 8-bit activations to the CPU', async () => {
    const source = join(folder, 'awq')
    await expect(loadModel(source, { device: 'cuda', activations: 'int8' })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      path: 'activations',
    })
    await using model = await loadModel(source, { activations: 'int8' })
    expect(model.info.device.kind).toBe('cpu')
    expect(model.info.device.reason).toContain('only the CPU has')
  })
})

describe('loading that is cancelled on CUDA', () => {
  const freeBytes = async () => (await nativeBinding().cudaInfo(0)).devices[0]?.freeBytes

  it.each<[string, LoadModelOptions]>([
    ['awq', {}],
    ['gptq-int8', {}],
    ['tiny', { quantization: 'int4' }],
  ])('gives the memory of %s with %j back', async (name, options) => {
    const source = name === 'tiny' ? name : join(folder, name)
    const before = await freeBytes()
    const abort = new AbortController()
    const reason = new Error('no longer wanted')
    const cancelled = loadModel(source, {
      ...options,
      device: 'cuda',
      signal: abort.signal,
      onProgress: ({ phase }) => {
        if (phase === 'weights') abort.abort(reason)
      },
    })
    await expect(cancelled).rejects.toBe(reason)
    // The load ends at the next piece of a file, after its promise.
    for (let i = 0; i < 600 && (await freeBytes()) !== before; ++i) {
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    expect(await freeBytes()).toBe(before)
    await using model = await loadModel(source, { ...options, device: 'cuda' })
    const { tokenIds } = await model.generate(requestOf(sampleOf('text-math')))
    expect(tokenIds).toEqual(sampleOf('text-math').reference.token_ids)
  })
})
