/** What the engine refuses: the class, its fields and its message. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  ContextLengthError,
  DisposedError,
  InvalidArgumentError,
  loadModel,
  QueueFullError,
  type GenerateRequest,
  type Model,
} from '../../../lib/index.js'
import { requestOf, sampleOf } from './tiny-samples.js'

const hello: GenerateRequest = { messages: [{ role: 'user', content: 'Who are you?' }] }
const endless: GenerateRequest = {
  ...hello,
  logitBias: { '<|im_end|>': -100, '<|endoftext|>': -100 },
  maxTokens: 1900,
}

let model: Model
beforeAll(async () => {
  model = await loadModel('tiny', { maxConcurrency: 1, maxQueue: 1 })
})
afterAll(() => model.dispose())

const errorOf = (request: GenerateRequest, of = model) =>
  of.generate(request).then(
    () => undefined,
    (error: unknown) => error,
  )

describe('QueueFullError', () => {
  it('says how many there are, how many may be, and when to come again', async () => {
    await model.generate({ ...hello, maxTokens: 4 })
    const controller = new AbortController()
    const running = [0, 1].map(() => errorOf({ ...endless, signal: controller.signal }))
    while (model.metrics().running + model.metrics().waiting < 2) {
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
    const error = await errorOf(hello)
    controller.abort()
    await Promise.all(running)
    expect(error).toBeInstanceOf(QueueFullError)
    expect(error).toMatchObject({
      code: 'ERR_QUEUE_FULL',
      queued: 2,
      retryAfterMs: expect.any(Number) as number,
      message:
        '2 requests are running or waiting; maxConcurrency and maxQueue allow 2: try again later or ' +
        'raise maxQueue',
    })
  })

  it('refuses all of n answers where there is no room for one, and leaves none behind', async () => {
    expect(await errorOf({ ...endless, n: 3 })).toBeInstanceOf(QueueFullError)
    while (model.metrics().running + model.metrics().waiting > 0) {
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
    expect((await model.generate({ ...hello, n: 2, maxTokens: 4 })).choices).toHaveLength(2)
  })
})

describe('ContextLengthError', () => {
  it('says how long the prompt is, what of it is visual, and what there is', async () => {
    const small = await loadModel('tiny', { contextSize: 32 })
    const error = await errorOf(requestOf(sampleOf('describe-three')), small)
    await small.dispose()
    expect(error).toBeInstanceOf(ContextLengthError)
    expect(error).toMatchObject({
      code: 'ERR_CONTEXT_LENGTH',
      promptTokens: 46,
      imageTokens: 20,
      limit: 32,
      message:
        'the prompt has 46 tokens, 20 of them visual; the context of 32 tokens must also hold the ' +
        'answer: shorten the text, lower maxPixels or the number of frames, or load the model with a ' +
        'larger contextSize',
    })
  })
})

describe('InvalidArgumentError', () => {
  it('ends an answer whose n-grams have run out', async () => {
    // Both tokens that end an answer stand in the prompt, so it goes on to the last of 1,280 tokens.
    const messages = [{ role: 'user', content: 'Who are you?<|endoftext|>' }]
    const error = await errorOf({ messages, noRepeatNgramSize: 1, maxTokens: 1900, n: 2 })
    expect(error).toBeInstanceOf(InvalidArgumentError)
    expect(error).toMatchObject({
      path: 'noRepeatNgramSize',
      message:
        'noRepeatNgramSize is 1, and every token that could come next would repeat one: raise it or ' +
        'set it to 0',
    })
  })
})

describe('DisposedError', () => {
  it('says what to do', async () => {
    const gone = await loadModel('tiny')
    await gone.dispose()
    const message = 'The model has been disposed. Load it again with loadModel().'
    expect(await errorOf(hello, gone)).toMatchObject({ code: 'ERR_DISPOSED', message })
    expect(await errorOf(hello, gone)).toBeInstanceOf(DisposedError)
    await expect(gone.generateBatch([hello])).rejects.toThrow(DisposedError)
    await expect(gone.stream(hello).result).rejects.toThrow(DisposedError)
  })
})
