import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  InvalidArgumentError,
  loadModel,
  Qwen2VLError,
  type GenerateRequest,
  type GenerateResult,
  type Model,
} from '../../../lib/index.js'
import { requestOf, sampleOf, samples } from './tiny-samples.js'

let model: Model
beforeAll(async () => void (model = await loadModel('tiny')))
afterAll(() => model.dispose())

/** Text only, several images, a video, a long conversation: every kind beside every other. */
const requests = samples.map(requestOf)
const idsOf = (results: (GenerateResult | Error)[]) =>
  results.map((result) => (result instanceof Error ? result.message : result.tokenIds))
const expected = samples.map(({ reference }) => reference.token_ids)

const endless: GenerateRequest = {
  messages: [{ role: 'user', content: 'Who are you?' }],
  logitBias: { '<|im_end|>': -100, '<|endoftext|>': -100 },
  maxTokens: 1900,
}

describe('generateBatch', () => {
  it('gives the answers that single requests give, in their order', async () => {
    expect(idsOf(await model.generateBatch(requests))).toEqual(expected)
  })

  it.each([1, 3, 500])('does so with %i at once', async (concurrency) => {
    const few = requests.slice(0, 12)
    let most = 0
    const watch = setInterval(() => {
      const { running, waiting } = model.metrics()
      most = Math.max(most, running + waiting)
    }, 1)
    const results = await model.generateBatch(few, { concurrency })
    clearInterval(watch)
    expect(idsOf(results)).toEqual(expected.slice(0, 12))
    expect(most).toBeLessThanOrEqual(concurrency)
  })

  it('equals Promise.all', async () => {
    const all = await Promise.all(requests.map((request) => model.generate(request)))
    expect(idsOf(all)).toEqual(expected)
  })

  it('puts an error where a request fails, and answers the others', async () => {
    const mixed = [requests[0]!, { messages: [] }, requests[1]!, { nonsense: 1 }] as never
    const results = await model.generateBatch(mixed)
    expect(results.map((result) => result instanceof Error)).toEqual([false, true, false, true])
    expect(results[3]).toBeInstanceOf(InvalidArgumentError)
    expect(idsOf([results[0]!, results[2]!])).toEqual([expected[0], expected[1]])
  })

  it('reports each as it ends', async () => {
    const seen = new Map<number, GenerateResult | Error>()
    const batch = [
      { ...endless, maxTokens: 300 },
      ...requests.slice(0, 4),
      { wrong: true },
    ] as never
    const order: number[] = []
    const results = await model.generateBatch(batch, {
      onResult: (index, result) => {
        order.push(index)
        seen.set(index, result)
      },
    })
    expect([...seen.keys()].sort()).toEqual([0, 1, 2, 3, 4, 5])
    for (const [index, result] of seen) expect(results[index]).toBe(result)
    expect(order.indexOf(0)).toBeGreaterThan(order.indexOf(5))
  })

  it('ends with the error of an onResult that fails, and stops the rest', async () => {
    const reason = new Error('disk full')
    const batch = [requests[0]!, endless, endless]
    const onResult = () => {
      throw reason
    }
    await expect(model.generateBatch(batch, { onResult })).rejects.toBe(reason)
    while (model.metrics().running > 0) await new Promise((resolve) => setTimeout(resolve, 1))
  })

  it('gives what was done before an abort, and its reason for the rest', async () => {
    const reason = new Error('enough')
    const controller = new AbortController()
    const batch = [requestOf(sampleOf('text-who')), endless, endless, endless]
    const results = await model.generateBatch(batch, {
      signal: controller.signal,
      concurrency: 2,
      onResult: (index) => {
        if (index === 0) controller.abort(reason)
      },
    })
    expect(results[0]).toHaveProperty('text')
    expect(results.slice(1)).toEqual([reason, reason, reason])
    const none = await model.generateBatch(batch, { signal: AbortSignal.abort('why') })
    for (const result of none) expect(result).toMatchObject({ message: 'why', cause: 'why' })
  })

  it('lets a request of its own mind end early', async () => {
    const [timedOut, partial] = await model.generateBatch([
      { ...endless, timeoutMs: 40 },
      { ...endless, timeoutMs: 40, onAbort: 'return' },
    ])
    expect(timedOut).toMatchObject({ code: 'ERR_TIMEOUT' })
    expect(partial).toMatchObject({ finishReason: 'abort' })
  })

  it.each([
    [undefined, {}, 'requests'],
    [{}, {}, 'requests'],
    [[], { concurrency: 0 }, 'concurrency'],
    [[], { onResult: 5 }, 'onResult'],
    [[], { concurency: 5 }, 'concurency'],
    [[], { signal: 5 }, 'signal'],
  ])('refuses %j with %j', async (given, options, path) => {
    const error: unknown = await model
      .generateBatch(given as never, options as never)
      .catch((reason: unknown) => reason)
    expect(Qwen2VLError.isInstance(error)).toBe(true)
    expect(error).toMatchObject({ code: 'ERR_INVALID_ARGUMENT', path })
  })

  it('has nothing to do for no requests', async () => {
    expect(await model.generateBatch([])).toEqual([])
  })
})
