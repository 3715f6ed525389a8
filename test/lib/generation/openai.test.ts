/** OpenAI's request bodies go in as they are, and its response bodies come out. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  loadModel,
  type ChatCompletionChunk,
  type GenerateRequest,
  type Model,
} from '../../../lib/index.js'

let model: Model
beforeAll(async () => void (model = await loadModel('tiny')))
afterAll(() => model.dispose())

const body = {
  model: 'gpt-4o',
  messages: [
    { role: 'system', content: 'You are a helpful assistant.' },
    { role: 'user', content: 'Who are you?' },
  ],
  max_completion_tokens: 12,
  temperature: 0,
  top_p: 1,
  n: 1,
  stop: null,
  seed: 7,
  logprobs: null,
  top_logprobs: null,
  logit_bias: null,
  frequency_penalty: 0,
  presence_penalty: 0,
  user: 'user-1234',
  metadata: { purpose: 'test' },
  tools: null,
} satisfies GenerateRequest & { tools: null }

async function read(stream: ReadableStream<Uint8Array>): Promise<string> {
  return new Response(stream).text()
}

/** The chunks of a stream, which must be well-formed server-sent events. */
function chunksOf(sse: string): ChatCompletionChunk[] {
  const lines = sse.split('\n\n')
  expect(lines.splice(-2)).toEqual(['data: [DONE]', ''])
  return lines.map((line) => {
    expect(line).toMatch(/^data: \{.*\}$/)
    return JSON.parse(line.slice('data: '.length)) as ChatCompletionChunk
  })
}

describe('an OpenAI body', () => {
  it('is a request, and its result an OpenAI response', async () => {
    const result = await model.generate({ ...body, stream: false })
    const { promptTokens, completionTokens, cachedTokens } = result.usage
    const completion = result.toOpenAI()
    expect(completion).toEqual({
      id: expect.stringMatching(/^chatcmpl-[0-9a-f-]{36}$/) as string,
      object: 'chat.completion',
      created: expect.any(Number) as number,
      model: 'gpt-4o',
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: result.text, refusal: null },
          logprobs: null,
          finish_reason: 'length',
        },
      ],
      usage: {
        prompt_tokens: promptTokens,
        completion_tokens: completionTokens,
        total_tokens: promptTokens + completionTokens,
        prompt_tokens_details: { cached_tokens: cachedTokens },
      },
    })
    expect(result.options).toMatchObject({ maxTokens: 12, temperature: 0, topP: 1, seed: 7 })
    expect(result.toOpenAI()).toEqual(completion)
    expect(Math.abs(completion.created - Date.now() / 1000)).toBeLessThan(60)
  })

  it('may ask for several answers with log probabilities, as content without its end', async () => {
    const request = { ...body, n: 2, logprobs: true, top_logprobs: 2, max_completion_tokens: 64 }
    const result = await model.generate(request)
    const { choices } = result.toOpenAI()
    expect(choices.map(({ index, finish_reason }) => [index, finish_reason])).toEqual([
      [0, 'stop'],
      [1, 'stop'],
    ])
    for (const { message, logprobs } of choices) {
      expect(logprobs!.content.map(({ token }) => token).join('')).toBe(message.content)
      for (const entry of logprobs!.content) {
        expect(Object.keys(entry)).toEqual(['token', 'bytes', 'logprob', 'top_logprobs'])
        expect(entry.top_logprobs).toHaveLength(2)
        expect(entry.top_logprobs[0]).toEqual({
          token: entry.token,
          bytes: entry.bytes,
          logprob: entry.logprob,
        })
      }
    }
  })

  it('names the checkpoint where the request names no model', async () => {
    const unnamed = { ...body, model: null }
    expect((await model.generate(unnamed)).toOpenAI().model).toBe('qwen2-vl-tiny')
  })

  it('leaves the result plain data', async () => {
    const result = await model.generate(body)
    expect(Object.keys(result)).not.toContain('toOpenAI')
    expect(structuredClone(result)).toEqual(result)
  })

  it.each([
    [{ tools: [{ type: 'function', function: { name: 'a b' } }] }, 'tools[0].function.name'],
    [{ response_format: { type: 'json' } as never }, 'responseFormat.type'],
    [{ stream: true }, 'stream'],
    [{ store: true }, 'store'],
    [{ max_token: 5 }, 'max_token'],
  ])('is refused with %j rather than half obeyed', async (more, path) => {
    await expect(model.generate({ ...body, ...more })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      path,
    })
  })
})

describe('toSSE', () => {
  it('gives the chunks of a streamed completion', async () => {
    const stream = model.stream({ ...body, stream: true })
    const chunks = chunksOf(await read(stream.toSSE()))
    const result = await stream.result
    const { id, created } = result.toOpenAI()
    for (const chunk of chunks) {
      const object = 'chat.completion.chunk'
      expect(chunk).toMatchObject({ id, created, object, model: 'gpt-4o' })
      expect(chunk).not.toHaveProperty('usage')
      expect(chunk.choices).toHaveLength(1)
    }
    const deltas = chunks.map(({ choices }) => choices[0]!.delta)
    expect(deltas.map(({ role }) => role)).toEqual([
      'assistant',
      ...Array<undefined>(deltas.length - 1).fill(undefined),
    ])
    expect(deltas.map(({ content }) => content ?? '').join('')).toBe(result.text)
    const reasons = chunks.map(({ choices }) => choices[0]!.finish_reason)
    expect(reasons.slice(0, -1).every((reason) => reason === null)).toBe(true)
    expect(reasons.at(-1)).toBe('length')
    expect(deltas.at(-1)).toEqual({})
  })

  it('ends with the token counts where stream_options asks for them', async () => {
    const stream = model.stream({ ...body, stream_options: { include_usage: true } })
    const chunks = chunksOf(await read(stream.toSSE()))
    const last = chunks.pop()!
    expect(last.choices).toEqual([])
    expect(last.usage).toEqual((await stream.result).toOpenAI().usage)
    for (const { usage } of chunks) expect(usage).toBeNull()
  })

  it('gives each of n answers its role, text and reason, and log probabilities', async () => {
    const request = { ...body, temperature: 4, n: 3, logprobs: true, top_logprobs: 1 }
    const stream = model.stream(request)
    const chunks = chunksOf(await read(stream.toSSE()))
    const { choices } = await stream.result
    for (const { index, text } of choices) {
      const own = chunks.flatMap((chunk) => chunk.choices.filter((part) => part.index === index))
      expect(own.map(({ delta }) => delta.content ?? '').join('')).toBe(text)
      expect(own.filter(({ delta }) => delta.role === 'assistant')).toHaveLength(1)
      expect(own[0]!.delta.role).toBe('assistant')
      expect(own.filter(({ finish_reason }) => finish_reason !== null)).toHaveLength(1)
      const tokens = own.flatMap(({ logprobs }) => logprobs?.content ?? [])
      expect(tokens.length).toBeGreaterThan(5)
      for (const token of tokens) expect(token.top_logprobs).toHaveLength(1)
    }
  })

  it('gives log probabilities of the content alone, also where a stop string held some back', async () => {
    // The answer ends with a full stop, which might have begun the stop string.
    const request = { ...body, max_completion_tokens: 64, stop: ['.\n\n'], logprobs: true }
    const stream = model.stream(request)
    const chunks = chunksOf(await read(stream.toSSE()))
    const { text } = await stream.result
    expect(text).toMatch(/\.$/)
    const tokens = chunks.flatMap(({ choices }) => choices[0]!.logprobs?.content ?? [])
    expect(tokens.map(({ token }) => token).join('')).toBe(text)
  })

  it('ends with the error of a request that fails', async () => {
    const stream = model.stream({ ...body, temperature: -1 })
    const text = await read(stream.toSSE())
    expect(JSON.parse(text.slice('data: '.length))).toEqual({
      error: {
        message: expect.stringContaining('temperature must be at least 0') as string,
        type: 'invalid_request_error',
        param: null,
        code: 'ERR_INVALID_ARGUMENT',
      },
    })
    await expect(stream.result).rejects.toThrow('temperature')
  })

  it('cancels the request when its reader goes', async () => {
    const endless = { ...body, logit_bias: { '<|im_end|>': -100 }, max_completion_tokens: 1500 }
    const stream = model.stream(endless)
    const reader = stream.toSSE().getReader()
    await reader.read()
    await reader.cancel()
    await expect(stream.result).rejects.toMatchObject({ name: 'AbortError' })
    while (model.metrics().running > 0) await new Promise((resolve) => setTimeout(resolve, 1))
  })
})

describe('toReadableStream', () => {
  it('gives the text', async () => {
    const stream = model.stream(body)
    let text = ''
    for await (const piece of stream.toReadableStream()) text += piece
    expect(text).toBe((await stream.result).text)
  })

  it('cancels the request when it is cancelled, and fails as the request does', async () => {
    const cancelled = model.stream({ ...body, max_completion_tokens: 1500 })
    await cancelled.toReadableStream().cancel()
    await expect(cancelled.result).rejects.toMatchObject({ name: 'AbortError' })
    const failing = model.stream({ ...body, n: 0 })
    await expect(failing.toReadableStream().getReader().read()).rejects.toThrow('n must be')
  })
})
