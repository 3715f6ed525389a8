/** What the options of a request do to the answers of the bundled checkpoint. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  InvalidArgumentError,
  loadModel,
  type GenerateRequest,
  type GenerationEvent,
  type Model,
  type TokenLogprob,
} from '../../../lib/index.js'
import { requestOf, sampleOf } from './tiny-samples.js'

let model: Model
beforeAll(async () => void (model = await loadModel('tiny')))
afterAll(() => model.dispose())

const hello: GenerateRequest = { messages: [{ role: 'user', content: 'Who are you?' }] }
const greedy = { ...hello, temperature: 0 }
const hot = { ...hello, temperature: 4, maxTokens: 24 }
const idOf = (token: string) => model.tokenizer.encode(token)[0]!

describe('n', () => {
  it('gives the answers that seed, seed + 1, ... give alone, and mirrors the first', async () => {
    const result = await model.generate({ ...hot, n: 4, seed: 40 })
    const alone = await Promise.all(
      [40, 41, 42, 43].map((seed) => model.generate({ ...hot, seed })),
    )
    expect(result.choices.map(({ text }) => text)).toEqual(alone.map(({ text }) => text))
    expect(result.choices.map(({ index, seed }) => [index, seed])).toEqual([
      [0, 40],
      [1, 41],
      [2, 42],
      [3, 43],
    ])
    expect(new Set(result.choices.map(({ text }) => text)).size).toBe(4)
    const { index, ...first } = result.choices[0]!
    expect(index).toBe(0)
    expect(result).toMatchObject(first)
    expect(result.usage.completionTokens).toBe(
      alone.reduce((sum, { usage }) => sum + usage.completionTokens, 0),
    )
    expect(result.usage.promptTokens).toBe(alone[0]!.usage.promptTokens)
    expect(result.options).toMatchObject({ n: 4, seed: 40 })
  })

  it('asks about images as one request does', async () => {
    const sample = sampleOf('describe-three')
    const { choices, images } = await model.generate({ ...requestOf(sample), n: 3 })
    expect(images).toHaveLength(1)
    for (const choice of choices) expect(choice.tokenIds).toEqual(sample.reference.token_ids)
  })

  it('streams all answers, each event with its index, and the first as text', async () => {
    const stream = model.stream({ ...hot, n: 3, seed: 5 })
    const texts = ['', '', '']
    const events: GenerationEvent[] = []
    for await (const event of stream) {
      events.push(event)
      if (event.type === 'text') texts[event.index!] = texts[event.index!]! + event.text
    }
    const { choices } = await stream.result
    expect(texts).toEqual(choices.map(({ text }) => text))
    expect(events.filter(({ type }) => type === 'finish')).toHaveLength(1)

    let first = ''
    for await (const text of model.stream({ ...hot, n: 3, seed: 5 }).textStream) first += text
    expect(first).toBe(choices[0]!.text)
  })

  it('wraps round at the largest seed', async () => {
    const seed = Number.MAX_SAFE_INTEGER
    const { choices } = await model.generate({ ...hot, n: 2, seed })
    expect(choices.map((choice) => choice.seed)).toEqual([seed, 0])
  })
})

describe('seed', () => {
  it('gives the same tokens on any number of threads', async () => {
    const request = { ...hot, seed: 99, topP: 0.95, repetitionPenalty: 1.1 }
    const { tokenIds } = await model.generate(request)
    for (const threads of [1, 2, 3]) {
      const other = await loadModel('tiny', { threads })
      expect((await other.generate(request)).tokenIds).toEqual(tokenIds)
      await other.dispose()
    }
  })
})

describe('logprobs', () => {
  it('come one a token, most likely first, and are those of the model itself', async () => {
    const request = { ...greedy, topLogprobs: 5, maxTokens: 12 }
    const { logprobs, tokenIds } = await model.generate(request)
    expect(logprobs!.map(({ tokenId }) => tokenId)).toEqual(tokenIds)
    for (const { logprob, topLogprobs, tokenId } of logprobs!) {
      expect(topLogprobs).toHaveLength(5)
      expect(topLogprobs[0]).toMatchObject({ tokenId, logprob })
      const values = topLogprobs.map((top) => top.logprob)
      expect(values).toEqual([...values].sort((a, b) => b - a))
      expect(values.reduce((sum, value) => sum + Math.exp(value), 0)).toBeLessThan(1 + 1e-9)
      expect(logprob).toBeLessThanOrEqual(0)
    }
    // Temperature, top-k and bias change what is drawn, not what the model thought.
    const changed = { ...request, temperature: 5, topK: 1, logitBias: { [tokenIds[0]!]: 3 } }
    expect((await model.generate(changed)).logprobs![0]).toEqual(logprobs![0])
  })

  it('are a logarithm of probabilities that add up to 1', async () => {
    // Twenty of 1,280 tokens leave little over where the model is sure.
    const { logprobs } = await model.generate({ ...greedy, topLogprobs: 20, maxTokens: 8 })
    for (const { topLogprobs } of logprobs!) {
      const sum = topLogprobs.reduce((total, { logprob }) => total + Math.exp(logprob), 0)
      expect(sum).toBeGreaterThan(0.9)
      expect(sum).toBeLessThan(1 + 1e-9)
    }
  })

  it('have bytes that join to the text', async () => {
    const { logprobs, text } = await model.generate({ ...greedy, logprobs: true, maxTokens: 10 })
    const bytes = logprobs!.flatMap((one) => one.bytes)
    expect(Buffer.from(bytes).toString('utf8')).toBe(text)
    expect(logprobs!.map(({ token }) => token).join('')).toBe(text)
    expect(logprobs!.every(({ topLogprobs }) => topLogprobs.length === 0)).toBe(true)
  })

  it('come with the pieces of a stream, all of them', async () => {
    const stream = model.stream({ ...hot, seed: 3, logprobs: true })
    const streamed: TokenLogprob[] = []
    for await (const event of stream) {
      if (event.type !== 'text') continue
      const last = event.logprobs!.at(-1)!
      expect(event).toMatchObject({ tokenId: last.tokenId, logprob: last.logprob })
      streamed.push(...event.logprobs!)
    }
    const { logprobs } = await stream.result
    expect(streamed).toEqual(logprobs!.slice(0, streamed.length))
    expect(streamed.length).toBeGreaterThan(10)
  })

  it('are absent unless asked for', async () => {
    expect(await model.generate({ ...greedy, maxTokens: 2 })).not.toHaveProperty('logprobs')
  })
})

describe('logitBias', () => {
  it('forces and bans tokens, by id or by text', async () => {
    const { tokenIds } = await model.generate(greedy)
    const first = tokenIds[0]!
    const banned = await model.generate({ ...greedy, logitBias: { [first]: -100 } })
    expect(banned.tokenIds).not.toContain(first)
    const text = model.tokenizer.decode([first])
    const byText = await model.generate({ ...greedy, logit_bias: { [text]: -100 } })
    expect(byText.tokenIds).toEqual(banned.tokenIds)
    expect(byText.options.logitBias).toEqual({ [first]: -100 })

    const forced = await model.generate({ ...greedy, logitBias: { '!': 100 }, maxTokens: 4 })
    expect(forced.text).toBe('!!!!')
  })

  it('reaches special tokens', async () => {
    const logitBias = { '<|im_end|>': 100 }
    const { text, tokenIds, finishReason } = await model.generate({ ...greedy, logitBias })
    expect({ text, tokenIds, finishReason }).toEqual({
      text: '',
      tokenIds: [idOf('<|im_end|>')],
      finishReason: 'stop',
    })
  })

  it.each<[Record<string, number>, RegExp]>([
    [{ 'hello world, twice': 1 }, /is \d+ tokens \(.*\), not one/],
    [{ '': 1 }, /is 0 tokens/],
    [{ 99999: 1 }, /ids of this model end at 1279/],
    [{ '0': 1, '!': 2 }, /names too/],
  ])('refuses %j', async (logitBias, message) => {
    if ('!' in logitBias) logitBias = { [idOf('!')]: 1, '!': 2 }
    const rejection = expect(model.generate({ ...greedy, logitBias })).rejects
    await rejection.toThrow(InvalidArgumentError)
    await expect(model.generate({ ...greedy, logitBias })).rejects.toThrow(message)
  })
})

describe('noRepeatNgramSize', () => {
  const ngrams = (ids: number[], size: number) =>
    ids.slice(size - 1).map((_, i) => ids.slice(i, i + size).join())

  it.each([1, 2, 3])('lets no %i tokens occur twice in the answer', async (noRepeatNgramSize) => {
    const endless = { ...greedy, maxTokens: 100, logitBias: { '<|im_end|>': -100 } }
    const { tokenIds } = await model.generate({ ...endless, noRepeatNgramSize })
    const found = ngrams(tokenIds, noRepeatNgramSize)
    expect(new Set(found).size).toBe(found.length)
    // Without it, this answer does repeat itself.
    const repeated = ngrams((await model.generate(endless)).tokenIds, noRepeatNgramSize)
    expect(new Set(repeated).size).toBeLessThan(repeated.length)
  })

  it('looks at the prompt too', async () => {
    const request = { ...greedy, noRepeatNgramSize: 1, maxTokens: 20 }
    const { tokenIds } = await model.generate(request)
    const prompt = new Set(model.tokenizer.encode('user\nWho are you?\nassistant'))
    expect(tokenIds.filter((id) => prompt.has(id))).toEqual([])
  })
})

describe('stop', () => {
  it('ends before a string that straddles tokens, in results and streams alike', async () => {
    const { text, tokenIds } = await model.generate(greedy)
    // Every inner string of three characters, among them many over the border of two tokens.
    for (let at = 3; at + 3 <= text.length; at += 5) {
      const stop = text.slice(at, at + 3)
      const stream = model.stream({ ...greedy, stop: [stop, '\u0000never'] })
      let shown = ''
      for await (const piece of stream.textStream) shown += piece
      const result = await stream.result
      expect(result.text).toBe(text.slice(0, text.indexOf(stop)))
      expect(shown).toBe(result.text)
      expect(result.finishReason).toBe('stop')
      expect(result.tokenIds.length).toBeLessThanOrEqual(tokenIds.length)
    }
  })

  it('finds characters whose bytes are several tokens', async () => {
    const ids = model.tokenizer.encode('é')
    expect(ids).toHaveLength(2)
    // These two alone, and each pair of them once: one pair is the character.
    const logitBias = Object.fromEntries(ids.map((id) => [id, 100]))
    const request = { ...greedy, logitBias, noRepeatNgramSize: 2, maxTokens: 8 }
    const whole = await model.generate(request)
    expect(whole.text).toContain('é')
    const { text, finishReason } = await model.generate({ ...request, stop: ['é'] })
    expect(finishReason).toBe('stop')
    expect(text).toBe(whole.text.slice(0, whole.text.indexOf('é')))
  })
})
