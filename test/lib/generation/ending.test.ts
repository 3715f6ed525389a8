/** How requests end before their time: by a time limit, a signal, leaving a stream, dispose(). */
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest'
import {
  DisposedError,
  loadModel,
  Qwen2VLError,
  TimeoutError,
  type GenerateRequest,
  type GenerationEvent,
  type Model,
} from '../../../lib/index.js'

let model: Model
beforeAll(async () => void (model = await loadModel('tiny')))
afterAll(() => model.dispose())

/** Never finds its end by itself; 1900 tokens take far longer than any limit here. */
const endless: GenerateRequest = {
  messages: [{ role: 'user', content: 'Who are you?' }],
  logitBias: { '<|im_end|>': -100, '<|endoftext|>': -100 },
  temperature: 0,
  maxTokens: 1900,
}

async function idle(loaded = model): Promise<void> {
  while (loaded.metrics().running + loaded.metrics().waiting > 0) {
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
}

describe('timeoutMs', () => {
  it('rejects with a TimeoutError that says the way out', async () => {
    const error: unknown = await model
      .generate({ ...endless, timeoutMs: 60 })
      .catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(TimeoutError)
    expect(Qwen2VLError.isInstance(error)).toBe(true)
    expect(error).toMatchObject({
      name: 'TimeoutError',
      code: 'ERR_TIMEOUT',
      timeoutMs: 60,
      details: { timeoutMs: 60 },
      message:
        'The answer was not complete after 60 ms. Raise timeoutMs, lower maxTokens, or set ' +
        "onAbort: 'return' to get the part that is there.",
    })
    await idle()
  })

  it('includes the time in which images are prepared', async () => {
    const never = new Promise<never>(() => {})
    const image = { toBuffer: () => never } as never
    const messages = [{ role: 'user', content: [{ type: 'image' as const, image }] }]
    await expect(model.generate({ messages, timeoutMs: 30 })).rejects.toThrow(TimeoutError)
  })

  it('leaves an answer alone that is there in time, and no timer behind', async () => {
    const timeoutMs = 2_000_000_000
    const set = vi.spyOn(globalThis, 'setTimeout')
    const clear = vi.spyOn(globalThis, 'clearTimeout')
    onTestFinished(() => void vi.restoreAllMocks())
    const { finishReason } = await model.generate({ ...endless, maxTokens: 3, timeoutMs })
    expect(finishReason).toBe('length')
    const index = set.mock.calls.findIndex(([, delay]) => delay === timeoutMs)
    expect(clear.mock.calls.flat()).toContain(set.mock.results[index]?.value)
  })

  it('rejects a stream after what it has yielded', async () => {
    const stream = model.stream({ ...endless, timeoutMs: 80 })
    let shown = ''
    const reading = (async () => {
      for await (const text of stream.textStream) shown += text
    })()
    await expect(reading).rejects.toThrow(TimeoutError)
    await expect(stream.result).rejects.toThrow(TimeoutError)
    expect(shown).not.toBe('')
  })
})

describe("onAbort: 'return'", () => {
  const partial = { ...endless, onAbort: 'return' as const }

  it('resolves with the answer so far when the time is up', async () => {
    const whole = await model.generate({ ...endless, maxTokens: 400 })
    const result = await model.generate({ ...partial, timeoutMs: 80 })
    expect(result.finishReason).toBe('abort')
    expect(result.tokenIds.length).toBeGreaterThan(0)
    expect(result.tokenIds.length).toBeLessThan(1900)
    const common = Math.min(result.text.length, whole.text.length)
    expect(result.text.slice(0, common)).toBe(whole.text.slice(0, common))
    expect(result.usage.completionTokens).toBe(result.tokenIds.length)
    expect(result.timings.firstTokenMs).toBeGreaterThan(0)
    expect(result.toOpenAI().choices[0]!.finish_reason).toBe('length')
    await idle()
    expect(model.metrics().running).toBe(0)
  })

  it('ends a stream with a finish event, at the signal or at abort()', async () => {
    const controller = new AbortController()
    const streams = [
      model.stream({ ...partial, signal: controller.signal }),
      model.stream({ ...partial }),
    ]
    for (const [i, stream] of streams.entries()) {
      const events: GenerationEvent[] = []
      for await (const event of stream) {
        events.push(event)
        if (events.length === 4) {
          if (i === 0) controller.abort()
          else stream.abort()
        }
      }
      const result = await stream.result
      expect(events.at(-1)).toMatchObject({ type: 'finish', finishReason: 'abort' })
      const shown = events.map((event) => (event.type === 'text' ? event.text : '')).join('')
      expect(shown).toBe(result.text)
    }
  })

  it('resolves with nothing where the abort came first, and for all of n', async () => {
    const result = await model.generate({ ...partial, n: 2, signal: AbortSignal.abort() })
    expect(result).toMatchObject({
      text: '',
      tokenIds: [],
      finishReason: 'abort',
      usage: { promptTokens: 0, completionTokens: 0 },
      images: [],
    })
    expect(result.choices.map(({ finishReason }) => finishReason)).toEqual(['abort', 'abort'])
    const many = await model.generate({ ...partial, n: 3, timeoutMs: 80 })
    expect(many.choices.map(({ finishReason }) => finishReason)).toEqual(Array(3).fill('abort'))
  })

  it('gives the part to the result of a stream that its reader left', async () => {
    const stream = model.stream(partial)
    for await (const text of stream.textStream) {
      expect(text).not.toBe('')
      break
    }
    expect((await stream.result).finishReason).toBe('abort')
  })

  it('does not hide other errors, nor a disposed model', async () => {
    await expect(model.generate({ ...partial, prompt: 'too' } as never)).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    })
    const other = await loadModel('tiny')
    const running = expect(other.generate(partial)).rejects.toThrow(DisposedError)
    await new Promise((resolve) => setTimeout(resolve, 20))
    await other.dispose()
    await running
  })
})

describe("onAbort: 'throw', the default,", () => {
  it('rejects with the reason of the signal', async () => {
    const reason = new Error('enough')
    for (const onAbort of [undefined, 'throw'] as const) {
      const controller = new AbortController()
      const answer = model.generate({ ...endless, onAbort, signal: controller.signal })
      setTimeout(() => controller.abort(reason), 20)
      await expect(answer).rejects.toBe(reason)
    }
    await idle()
  })
})
