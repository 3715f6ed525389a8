/** Device 'cuda' answers as the CPU does: every sample of the bundled checkpoint, through the public API. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadModel, type Model } from '../../lib/index.js'
import { requestOf, sampleOf, samples } from '../lib/generation/tiny-samples.js'

let cuda: Model
beforeAll(async () => void (cuda = await loadModel('tiny', { device: 'cuda' })))
afterAll(() => cuda.dispose())

const tokensOf = async (model: Model, id: string) =>
  (await model.generate(requestOf(sampleOf(id)))).tokenIds

describe('the answers on CUDA', () => {
  let cpu: Model
  beforeAll(async () => void (cpu = await loadModel('tiny', { device: 'cpu' })))
  afterAll(() => cpu.dispose())

  it.each(samples)("to $id are the CPU's, token for token", async ({ id }) => {
    expect(await tokensOf(cuda, id)).toEqual(await tokensOf(cpu, id))
  })
})

describe('several requests on CUDA', () => {
  const ids = ['text-math', 'ocr-hello', 'multi-turn-turn3', 'exists']
  const together = samples.filter(({ id }) => ids.includes(id))

  it('at a time are answered as alone', async () => {
    const answers = await Promise.all(together.map(({ id }) => tokensOf(cuda, id)))
    expect(answers).toEqual(together.map(({ reference }) => reference.token_ids))
  })

  it('go on when a neighbour is cancelled', async () => {
    const controller = new AbortController()
    const cancelled = cuda.generate({
      ...requestOf(sampleOf('describe-three')),
      signal: controller.signal,
    })
    const other = tokensOf(cuda, 'ocr-hello')
    setTimeout(() => controller.abort(), 200)
    await expect(cancelled).rejects.toThrow()
    expect(await other).toEqual(sampleOf('ocr-hello').reference.token_ids)
    // The memory that the cancelled one used is in order.
    expect(await tokensOf(cuda, 'text-math')).toEqual(sampleOf('text-math').reference.token_ids)
  })
})

describe('a model on CUDA', () => {
  it('may be asked a text first', async () => {
    const model = await loadModel('tiny', { device: 'cuda' })
    try {
      const { reference } = sampleOf('text-math')
      expect(await tokensOf(model, 'text-math')).toEqual(reference.token_ids)
    } finally {
      await model.dispose()
    }
  })

  it('says what it computes on and in what', () => {
    expect(cuda.info).toMatchObject({
      device: { kind: 'cuda', reason: 'the caller asked for it' },
      dtype: 'bf16',
    })
    expect(cuda.info.device.instructionSet).toMatch(/^sm_\d+$/)
  })

  it('is what auto takes where there is a GPU', async () => {
    const model = await loadModel('tiny')
    try {
      expect(model.info.device).toMatchObject({ kind: 'cuda' })
    } finally {
      await model.dispose()
    }
  })

  it('refuses what only the CPU has, where auto falls back to it', async () => {
    for (const [path, options] of [
      ['weights', { weights: 'mapped' }],
      ['dtype', { dtype: 'fp32' }],
      ['kvCacheType', { kvCacheType: 'fp32' }],
    ] as const) {
      await expect(loadModel('tiny', { device: 'cuda', ...options })).rejects.toMatchObject({
        code: 'ERR_INVALID_ARGUMENT',
        path,
      })
      const model = await loadModel('tiny', options)
      try {
        expect(model.info.device.kind).toBe('cpu')
        expect(model.info.device.reason).toContain('only the CPU has')
      } finally {
        await model.dispose()
      }
    }
  })

  it('refuses a GPU that is not there', async () => {
    await expect(loadModel('tiny', { device: 'cuda:77' })).rejects.toMatchObject({
      code: 'ERR_BACKEND_UNAVAILABLE',
      message: expect.stringContaining('no CUDA device 77') as string,
    })
  })
})
