/** Memory that a GPU does not have while requests run ends the request that needs it, and nothing else. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { makePicture } from '../../lib/bench/pictures.js'
import { loadModel, OutOfMemoryError, type Model } from '../../lib/index.js'
import { nativeBinding } from '../../lib/native.js'
import { requestOf, sampleOf } from '../lib/generation/tiny-samples.js'

const answerOf = (id: string) => sampleOf(id).reference.token_ids
const whole = process.env['QWEN2_VL_SIM_MEMORY'] ?? String(2 ** 31)

async function usedBytes(): Promise<number> {
  const [device] = (await nativeBinding().cudaInfo(0)).devices
  if (!device || device.freeBytes === null) throw new Error('there is no device')
  return device.memoryBytes - device.freeBytes
}

/** Of what the device has, leaves so much beside what is in use: others have taken the rest. */
async function leave(bytes: number): Promise<void> {
  process.env['QWEN2_VL_SIM_MEMORY'] = String((await usedBytes()) + bytes)
}
const leaveAll = () => void (process.env['QWEN2_VL_SIM_MEMORY'] = whole)

describe.skipIf(process.env['QWEN2_VL_TEST_CUDA'] === 'gpu')('without memory on the GPU', () => {
  let model: Model
  beforeAll(async () => {
    // So that the variable is only overwritten later, beside threads that read it.
    leaveAll()
    // A long prompt is one step, which needs more than steps before it.
    model = await loadModel('tiny', { device: 'cuda', contextSize: 2048, prefillChunk: 1024 })
  })
  afterEach(leaveAll)
  afterAll(() => model.dispose())

  const content = [
    { type: 'image' as const, image: makePicture(560, 420) },
    { type: 'text' as const, text: 'What is this?' },
  ]
  const largeImage = { messages: [{ role: 'user' as const, content }], maxTokens: 2 }
  const longPrompt = { prompt: 'one two three four '.repeat(300), maxTokens: 2 }

  it.each([
    ['an image', largeImage],
    ['a long prompt', longPrompt],
  ])('%s is refused, those beside it go on, and it is answered later', async (_, request) => {
    const other = { ...requestOf(sampleOf('describe-three')), maxTokens: 8 }
    const { text } = await model.generate(other) // what it needs is there then
    await model.clearCache()
    const before = await usedBytes()

    let answer = ''
    let refused: Promise<unknown> | undefined
    for await (const event of model.stream(other)) {
      if (event.type !== 'text') continue
      answer += event.text
      if (!refused) {
        await leave(0)
        refused = model.generate(request).then(
          () => 'it was answered',
          (error: unknown) => error,
        )
      }
    }
    expect(answer).toBe(text)
    const error = await refused
    expect(error).toBeInstanceOf(OutOfMemoryError)
    expect(error).toMatchObject({ code: 'ERR_OUT_OF_MEMORY' })

    // The memory of the request that ended is there for others, and nothing is lost.
    const { tokenIds } = await model.generate(requestOf(sampleOf('text-math')))
    expect(tokenIds).toEqual(answerOf('text-math'))
    await model.clearCache()
    expect(await usedBytes()).toBeLessThanOrEqual(before)

    leaveAll()
    const { usage } = await model.generate(request)
    expect(usage.completionTokens).toBeGreaterThan(0)
  })

  it('loading ends in the middle and gives all back', async () => {
    await model.clearCache()
    const before = await usedBytes()
    // Neither a plan nor a limit stands before the driver's own answer.
    const load = () =>
      loadModel('tiny', { device: 'cuda', contextSize: 2048, memoryLimit: 2 ** 40 })
    for (const bytes of [2 ** 20, 2 ** 23, 2 ** 25]) {
      await leave(bytes)
      await expect(load()).rejects.toMatchObject({ code: 'ERR_OUT_OF_MEMORY' })
      expect(await usedBytes()).toBe(before)
    }
    leaveAll()
    const other = await load()
    const { tokenIds } = await other.generate(requestOf(sampleOf('ocr-hello')))
    expect(tokenIds).toEqual(answerOf('ocr-hello'))
    await other.dispose()
    expect(await usedBytes()).toBe(before)
  })
})
