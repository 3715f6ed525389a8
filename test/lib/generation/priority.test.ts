/** Which of the requests that wait begins first. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadModel, type GenerateRequest, type Model } from '../../../lib/index.js'

const hello: GenerateRequest = { messages: [{ role: 'user', content: 'Who are you?' }] }
const endless: GenerateRequest = {
  ...hello,
  logitBias: { '<|im_end|>': -100, '<|endoftext|>': -100 },
  maxTokens: 1900,
}

let model: Model
beforeAll(async () => {
  model = await loadModel('tiny', { maxConcurrency: 1 })
})
afterAll(() => model.dispose())

async function untilWaiting(count: number): Promise<void> {
  while (model.metrics().running !== 1 || model.metrics().waiting !== count) {
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
}

describe('priority', () => {
  it.each([
    { priorities: [-1, 0, 5], order: [2, 1, 0] },
    { priorities: [3, 1000, 3], order: [1, 0, 2] },
    { priorities: [undefined, -1000, 1], order: [2, 0, 1] },
    { priorities: [undefined, null, 0], order: [0, 1, 2] },
  ])('lets requests of $priorities end in the order $order', async ({ priorities, order }) => {
    const alone = await model.generate({ ...hello, cache: false })
    const controller = new AbortController()
    const running = model.generate({ ...endless, signal: controller.signal })
    const stopped = expect(running).rejects.toThrow('aborted')
    await untilWaiting(0)
    const ended: number[] = []
    const answers: Promise<string>[] = []
    for (const [index, priority] of priorities.entries()) {
      const answer = model.generate({ ...hello, priority }).then(({ text }) => {
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
