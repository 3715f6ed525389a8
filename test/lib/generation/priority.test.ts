/** Which of the requests that wait begins first. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  loadModel,
  type GenerateRequest,
  type GenerationEvent,
  type GenerationStream,
  type Model,
} from '../../../lib/index.js'

/** Without an end of its own, so that it runs as long as is needed to tell who was first. */
const endless: GenerateRequest = {
  messages: [{ role: 'user', content: 'Who are you?' }],
  logitBias: { '<|im_end|>': -100, '<|endoftext|>': -100 },
  maxTokens: 1900,
}
const long: GenerateRequest = { ...endless, maxTokens: 200 }

let model: Model
beforeAll(async () => {
  model = await loadModel('tiny', { maxConcurrency: 1 })
})
afterAll(() => model.dispose())

/** Resolves when the answer has begun, and with it the engine's only place is taken. */
async function firstText(stream: GenerationStream): Promise<void> {
  const events: AsyncIterator<GenerationEvent> = stream[Symbol.asyncIterator]()
  for (;;) {
    const next: IteratorResult<GenerationEvent, unknown> = await events.next()
    if (next.done === true || next.value.type === 'text') return
  }
}

async function untilWaiting(count: number): Promise<void> {
  while (model.metrics().waiting !== count) await new Promise((resolve) => setTimeout(resolve, 1))
}

describe('priority', () => {
  it.each([
    { priorities: [-1, 0, 5], order: [2, 1, 0] },
    { priorities: [3, 1000, 3], order: [1, 0, 2] },
    { priorities: [undefined, -1000, 1], order: [2, 0, 1] },
    { priorities: [undefined, null, 0], order: [0, 1, 2] },
  ])('lets requests of $priorities end in the order $order', async ({ priorities, order }) => {
    const alone = await model.generate({ ...long, cache: false })
    const controller = new AbortController()
    const running = model.stream({ ...endless, signal: controller.signal })
    const stopped = expect(running.result).rejects.toThrow('aborted')
    await firstText(running)
    const ended: number[] = []
    const answers: Promise<string>[] = []
    for (const [index, priority] of priorities.entries()) {
      const answer = model.generate({ ...long, priority }).then(({ text }) => {
        ended.push(index)
        return text
      })
      answers.push(answer)
      await untilWaiting(index + 1)
    }
    controller.abort()
    await stopped
    expect(await Promise.all(answers)).toEqual(priorities.map(() => alone.text))
    expect(ended).toEqual(order)
  })
})
