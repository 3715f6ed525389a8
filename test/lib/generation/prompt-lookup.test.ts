/** Speculative prompt lookup: the same answers, events and log probabilities, in fewer steps. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  loadModel,
  type GenerateRequest,
  type GenerateResult,
  type GenerationEvent,
  type Model,
} from '../../../lib/index.js'
import { requestOf, samples } from './tiny-samples.js'

let model: Model
beforeAll(async () => void (model = await loadModel('tiny', { promptLookupTokens: 0 })))
afterAll(() => model.dispose())

/** All of a result that must not depend on how it was computed. */
function answerOf({ choices, usage, options }: GenerateResult) {
  const { promptTokens, completionTokens } = usage
  return { choices, promptTokens, completionTokens, options }
}

async function stepsOf<T>(run: () => Promise<T>): Promise<{ result: T; steps: number }> {
  const before = model.metrics().steps
  const result = await run()
  return { result, steps: model.metrics().steps - before }
}

const hello = { messages: [{ role: 'user' as const, content: 'Who are you?' }] }
/** It never finds its end, and soon repeats itself. */
const endless = { ...hello, logitBias: { '<|im_end|>': -100 }, maxTokens: 80, seed: 1 }

describe('an answer is the same with prompt lookup as without', () => {
  const options: [string, Omit<GenerateRequest, 'messages' | 'prompt'>][] = [
    ['greedy', { temperature: 0, topLogprobs: 3 }],
    ['sampled', { temperature: 0.8, topP: 0.95, topLogprobs: 2 }],
    ['sampled wildly', { temperature: 3, topK: 20, logprobs: true }],
    ['with a repetition penalty', { temperature: 0, repetitionPenalty: 1.2 }],
    ['with penalties on the last tokens', { temperature: 1, presencePenalty: 1, penaltyLastN: 8 }],
    ['with a frequency penalty', { temperature: 0, frequencyPenalty: 0.7, logprobs: true }],
    ['without repeated n-grams', { temperature: 0, noRepeatNgramSize: 12 }],
    ['up to a stop string', { temperature: 0, stop: ['purple'] }],
    ['several at once', { temperature: 0.7, n: 3, topLogprobs: 1 }],
  ]

  it.each(options)('%s', async (_, more) => {
    let accepted = 0
    for (let seed = 0; seed < 3; ++seed) {
      const request = { ...endless, ...more, seed }
      const without = await model.generate({ ...request, promptLookupTokens: 0 })
      for (const promptLookupTokens of [1, 7]) {
        const with_ = await model.generate({ ...request, promptLookupTokens })
        expect(answerOf(with_)).toEqual(answerOf(without))
        expect(without.usage).toMatchObject({ draftTokens: 0, acceptedDraftTokens: 0 })
        accepted += with_.usage.acceptedDraftTokens
      }
    }
    expect(accepted).toBeGreaterThan(0)
  })

  it('where every token is guessed, whatever its length', async () => {
    const request = { ...hello, temperature: 0, logitBias: { a: 100 } }
    for (let maxTokens = 1; maxTokens <= 30; ++maxTokens) {
      const { tokenIds, finishReason, usage } = await model.generate({
        ...request,
        maxTokens,
        promptLookupTokens: 7,
      })
      expect(new Set(tokenIds).size).toBe(1)
      expect(tokenIds).toHaveLength(maxTokens)
      expect(finishReason).toBe('length')
      expect(usage.acceptedDraftTokens).toBe(usage.draftTokens)
    }
  })

  it('for all samples at once, pictures and videos among them', async () => {
    const results = await model.generateBatch(
      samples.map((sample) => ({ ...requestOf(sample), promptLookupTokens: 7 })),
    )
    for (const [index, result] of results.entries()) {
      if (result instanceof Error) throw result
      expect(result.tokenIds).toEqual(samples[index]!.reference.token_ids)
    }
  })

  it('in a stream, event by event', async () => {
    const collect = async (promptLookupTokens: number) => {
      const events: GenerationEvent[] = []
      const request = { ...endless, temperature: 0, topLogprobs: 2, promptLookupTokens }
      const stream = model.stream(request)
      for await (const event of stream) {
        if (event.type !== 'finish' && event.type !== 'start') events.push(event)
      }
      return events
    }
    const without = await collect(0)
    expect(without.length).toBeGreaterThan(60)
    expect(await collect(7)).toEqual(without)
  })
})

describe('prompt lookup', () => {
  it('takes a step less for every guess that came true', async () => {
    const request = { ...endless, temperature: 0 }
    const without = await stepsOf(() => model.generate(request))
    const with_ = await stepsOf(() => model.generate({ ...request, promptLookupTokens: 7 }))
    expect(without.steps).toBe(80)
    const { draftTokens, acceptedDraftTokens } = with_.result.usage
    expect(with_.steps).toBe(80 - acceptedDraftTokens)
    expect(acceptedDraftTokens).toBeGreaterThan(20)
    expect(acceptedDraftTokens).toBeLessThanOrEqual(draftTokens)
  })

  it('guesses an answer that the conversation has already', async () => {
    const { messages } = hello
    const { text } = await model.generate({ messages, temperature: 0 })
    const history = [...messages, { role: 'assistant' as const, content: text }, ...messages]
    const { result, steps } = await stepsOf(() =>
      model.generate({ messages: history, temperature: 0, promptLookupTokens: 7 }),
    )
    expect(result.text).toBe(text)
    expect(result.usage.completionTokens).toBe(19)
    expect(steps).toBe(6)
  })

  it('is counted in metrics, and may be named as transformers does', async () => {
    const before = model.metrics()
    const { usage } = await model.generate({
      ...endless,
      temperature: 0,
      prompt_lookup_num_tokens: 5,
    })
    const after = model.metrics()
    expect(usage.draftTokens).toBeGreaterThan(0)
    expect(after.draftTokens - before.draftTokens).toBe(usage.draftTokens)
    expect(after.acceptedDraftTokens - before.acceptedDraftTokens).toBe(usage.acceptedDraftTokens)
  })

  it('is on unless the model or the request says otherwise', async () => {
    await using other = await loadModel('tiny')
    const request = { ...endless, temperature: 0 }
    const { usage } = await other.generate(request)
    expect(usage.acceptedDraftTokens).toBeGreaterThan(0)
    const off = await other.generate({ ...request, promptLookupTokens: 0 })
    expect(off.usage.draftTokens).toBe(0)
    const ofModel = await model.generate(request)
    expect(ofModel.usage.draftTokens).toBe(0)
  })
})
