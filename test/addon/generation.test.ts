import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { NativeGenerationRequest, NativeModel } from '../../lib/native.js'
import {
  unendingRequest,
  greedy,
  loadTiny,
  run,
  sample,
  shortContext,
  textRequest,
} from './tiny.js'

let model: NativeModel
beforeAll(async () => void (model = await loadTiny()))
afterAll(() => model.dispose())

describe('generate', () => {
  it('answers as the reference does, token for token', async () => {
    const { ids, reason, stats } = await run(model, textRequest()).end
    expect(ids).toEqual(sample('text-who').reference.token_ids)
    expect(reason).toBe('stop')
    expect(stats).toMatchObject({
      promptTokens: sample('text-who').prompt_token_ids.length,
      completionTokens: ids.length,
    })
    expect(stats.firstTokenMs).toBeGreaterThan(0)
  })

  it('gives the largest logits of each step, largest first', async () => {
    const { tokens } = await run(model, textRequest({ topLogits: 5 })).end
    for (const [step, top] of sample('text-who').reference.first_steps_top5.entries()) {
      const found = tokens[step]!.topLogits!
      expect(found.map(({ id }) => id)).toEqual(top.map(({ id }) => id))
      for (const [i, { logit }] of top.entries()) {
        expect(Math.abs(found[i]!.logit - logit)).toBeLessThan(2e-3)
      }
    }
  })

  it('gives logit and log-sum-exp of each step where they are asked for', async () => {
    const asked = textRequest({ topLogits: 1024, logProbabilities: true, maxTokens: 2 })
    const { tokens } = await run(model, asked).end
    for (const { id, logit, logSumExp, topLogits = [] } of tokens) {
      expect(topLogits[0]).toEqual({ id, logit })
      const sum = topLogits.reduce((total, top) => total + Math.exp(top.logit - logSumExp), 0)
      // Nearly all of the 1,280 tokens, and the unlikeliest are left out.
      expect(sum).toBeLessThan(1 + 1e-9)
      expect(sum).toBeGreaterThan(0.999)
    }
    const { tokens: plain } = await run(model, textRequest({ maxTokens: 1 })).end
    expect(plain[0]).toMatchObject({ logit: 0, logSumExp: 0 })
  })

  it('ends with "length" at maxTokens', async () => {
    const { ids, reason } = await run(model, textRequest({ maxTokens: 2 })).end
    expect(ids).toEqual(sample('text-who').reference.token_ids.slice(0, 2))
    expect(reason).toBe('length')
  })

  it('ends at the end of the context', async () => {
    const short = await loadTiny(shortContext)
    const request = unendingRequest()
    const { ids, reason } = await run(short, request).end
    expect(reason).toBe('length')
    expect(request.prompt.length + ids.length).toBe(shortContext.maxContext)
    await short.dispose()
  })

  it('copies what it is given: the caller may change it at once', async () => {
    const request = textRequest()
    const running = run(model, request)
    request.prompt.fill(0)
    expect((await running.end).ids).toEqual(sample('text-who').reference.token_ids)
  })

  it('stops when it is cancelled, and gives its blocks back', async () => {
    const running = run(model, unendingRequest())
    await running.tokens(3)
    running.cancel()
    running.cancel()
    const { reason, ids } = await running.end
    expect(reason).toBe('cancelled')
    expect(ids.length).toBeLessThan(1000)
    running.cancel() // after the end is fine
    expect(model.metrics()).toMatchObject({ running: 0, waiting: 0, kvBlocksUsed: 0 })
  })

  it('draws the same tokens for the same seed, at the ends of its range too', async () => {
    const sampled = (seed: bigint) =>
      run(model, {
        ...textRequest({ maxTokens: 24, stopIds: new Int32Array(0) }),
        sampling: { ...greedy, temperature: 5, seed },
      }).end.then(({ ids }) => ids)
    const [first, again, other, largest] = await Promise.all(
      [7n, 7n, 8n, 2n ** 64n - 1n].map(sampled),
    )
    expect(again).toEqual(first)
    expect(other).not.toEqual(first)
    expect(largest).not.toEqual(first)
  })

  it.each<[string, Partial<NativeGenerationRequest> | { [key: string]: unknown }]>([
    ['an empty prompt', { prompt: new Int32Array(0) }],
    ['a prompt of another type', { prompt: [1, 2, 3] }],
    ['a prompt of floats', { prompt: new Float32Array(3) }],
    ['an id beyond the vocabulary', { prompt: Int32Array.of(1280) }],
    ['a negative id', { prompt: Int32Array.of(-1) }],
    ['items that are no array', { items: {} }],
    ['an item without frames', { items: [{ frames: [], isVideo: false }] }],
    ['a frame that is no image', { items: [{ frames: [{}], isVideo: false }] }],
    ['a model in the place of an image', { items: [{ frames: [null], isVideo: false }] }],
    ['no tokens to generate', { maxTokens: 0 }],
    ['a fraction of a token', { maxTokens: 1.5 }],
    ['a priority that is no whole number', { priority: 0.5 }],
    ['a draft that is too long', { maxDraftTokens: 65 }],
    ['a draft of a negative length', { maxDraftTokens: -1 }],
    ['a seed that is no bigint', { sampling: { ...greedy, seed: 1 } }],
    ['a negative seed', { sampling: { ...greedy, seed: -1n } }],
    ['a seed beyond 64 bits', { sampling: { ...greedy, seed: 2n ** 64n } }],
    ['topP above 1', { sampling: { ...greedy, topP: 1.01 } }],
    ['a temperature that is no number', { sampling: { ...greedy, temperature: NaN } }],
    ['a bias for no token', { sampling: { ...greedy, logitBias: [{ id: 1280, bias: 1 }] } }],
    ['a bias that is no number', { sampling: { ...greedy, logitBias: [{ id: 1, bias: NaN }] } }],
    ['a bias without an id', { sampling: { ...greedy, logitBias: [{ bias: 1 }] } }],
    ['biases that are no list', { sampling: { ...greedy, logitBias: { 5: 1 } } }],
    ['n-grams of a negative size', { sampling: { ...greedy, noRepeatNgramSize: -1 } }],
    ['logProbabilities that are no boolean', { logProbabilities: 1 }],
    ['stop ids of another type', { stopIds: [1] }],
  ])('refuses %s', (_, changes) => {
    const request = { ...textRequest(), ...changes }
    expect(() => model.generate(request, () => {})).toThrow(
      expect.objectContaining({
        code: expect.stringMatching(/^ERR_(INVALID_ARGUMENT|PROMPT_VISION_MISMATCH)$/) as string,
      }),
    )
  })

  it('does not take another native object for an image', () => {
    const items = [{ frames: [model as never], isVideo: false }]
    expect(() => model.generate(textRequest({ items }), () => {})).toThrow(/prepareImage/)
  })

  it('refuses a prompt that fills the context, with the figures', () => {
    const prompt = new Int32Array(2048).fill(5)
    expect(() => model.generate(textRequest({ prompt }), () => {})).toThrow(
      expect.objectContaining({
        code: 'ERR_CONTEXT_LENGTH',
        details: expect.objectContaining({ promptTokens: 2048, limit: 2048 }) as object,
      }),
    )
  })

  it('refuses a missing callback', () => {
    expect(() => model.generate(textRequest(), undefined as never)).toThrow(/onEvent/)
  })

  it('refuses more requests than may run and wait', async () => {
    const small = await loadTiny({ maxSequences: 1, maxQueue: 1 })
    const running = [run(small, unendingRequest()), run(small, unendingRequest())]
    expect(() => small.generate(unendingRequest(), () => {})).toThrow(
      expect.objectContaining({ code: 'ERR_QUEUE_FULL' }),
    )
    for (const { cancel } of running) cancel()
    await Promise.all(running.map(({ end }) => end))
    await small.dispose()
  })

  it('ends running requests with ERR_DISPOSED, and refuses new ones', async () => {
    const other = await loadTiny()
    const running = run(other, unendingRequest())
    await running.tokens(1)
    const disposed = other.dispose()
    await expect(running.end).rejects.toMatchObject({ code: 'ERR_DISPOSED' })
    await disposed
    expect(() => other.generate(textRequest(), () => {})).toThrow(
      expect.objectContaining({ code: 'ERR_DISPOSED' }),
    )
    expect(other.metrics()).toMatchObject({ running: 0 })
  })

  it('goes on when the callback throws', async () => {
    // Node warns (DEP0168) and carries on; the request must neither stop nor take the process down.
    process.noDeprecation = true
    let events = 0
    const end = new Promise<void>((resolve) => {
      model.generate(textRequest({ maxTokens: 3 }), (event) => {
        ++events
        if (event.type === 'finish') resolve()
        else throw new Error('from the callback')
      })
    })
    await end
    process.noDeprecation = false
    expect(events).toBe(4)
  })
})
