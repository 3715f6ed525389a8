/** Weights of 8 and 4 bits on device 'cuda' answer as they do on the CPU, however they became so. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadModel, quantizeCheckpoint, type LoadModelOptions } from '../../lib/index.js'
import { requestOf, samples } from '../lib/generation/tiny-samples.js'

/** Text, pictures of odd sizes, several pictures, a video, several turns. */
const asked = samples.filter(({ id }) =>
  [
    'ocr-hello',
    'exists',
    'two-images-same',
    'video-direction',
    'multi-turn-turn3',
    'text-math',
  ].includes(id),
)

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'qwen2-vl-cuda-'))
  await quantizeCheckpoint('tiny', { format: 'awq', groupSize: 32, out: join(folder, 'awq') })
  await quantizeCheckpoint('tiny', { format: 'awq', groupSize: 64, out: join(folder, 'awq-64') })
  await quantizeCheckpoint('tiny', { format: 'gptq-int8', out: join(folder, 'gptq-int8') })
})
afterAll(() => rm(folder, { recursive: true, force: true }))

async function answers(source: string, options: LoadModelOptions): Promise<number[][]> {
  const model = await loadModel(source, options)
  try {
    return await Promise.all(
      asked.map(async (sample) => (await model.generate(requestOf(sample))).tokenIds),
    )
  } finally {
    await model.dispose()
  }
}

describe('the answers on CUDA', () => {
  it.each([
    ['an AWQ checkpoint', 'awq', {}],
    ['an AWQ checkpoint with groups of 64', 'awq-64', {}],
    ['a GPTQ-Int8 checkpoint', 'gptq-int8', {}],
    ['weights made 8-bit', 'tiny', { quantization: 'int8', visionQuantization: 'int8' }],
    ['weights made 4-bit', 'tiny', { quantization: 'int4' }],
  ] as [string, string, LoadModelOptions][])("with %s are the CPU's", async (_, name, options) => {
    const source = name === 'tiny' ? name : join(folder, name)
    expect(await answers(source, { ...options, device: 'cuda' })).toEqual(
      await answers(source, { ...options, device: 'cpu' }),
    )
  })
})
