/** Every sample of the bundled checkpoint, and that nothing around a request changes its answer. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Abort } from '../../../lib/generation/abort.js'
import { preparePrompt, type PromptContext } from '../../../lib/generation/prompt.js'
import { loadModel, type Model } from '../../../lib/index.js'
import type { NativeLoadOptions, NativeModel } from '../../../lib/native.js'
import { loadTiny, run, textRequest } from '../../addon/tiny.js'
import { countsOf, requestOf, sampleOf, samples, tinyContext, type Sample } from './tiny-samples.js'

let context: PromptContext
beforeAll(async () => void (context = await tinyContext()))

const promptOf = (sample: Sample) =>
  preparePrompt(
    context,
    { messages: sample.messages, addVisionId: sample.add_vision_id },
    new Abort(),
  )

/** The tokens of an answer, each with its largest logits. */
async function answer(native: NativeModel, sample: Sample) {
  const { tokenIds, items } = await promptOf(sample)
  const maxTokens = sample.max_new_tokens
  const request = textRequest({ prompt: tokenIds, items, maxTokens, topLogits: 5 })
  return (await run(native, request).end).tokens
}

describe.each(samples)('sample $id', (sample) => {
  it('has the prompt ids of the reference', async () => {
    const { tokenIds, counts } = await promptOf(sample)
    expect([...tokenIds]).toEqual(sample.prompt_token_ids)
    expect(counts).toEqual(countsOf(sample))
  })
})

describe('the answers', () => {
  let model: Model
  let native: NativeModel
  beforeAll(async () => {
    model = await loadModel('tiny')
    native = await loadTiny()
  })
  afterAll(async () => {
    await model.dispose()
    await native.dispose()
  })

  it.each(samples)("to $id are the reference's, token for token", async (sample) => {
    const result = await model.generate(requestOf(sample))
    expect(result.tokenIds).toEqual(sample.reference.token_ids)
    expect(result).toMatchObject({
      text: sample.reference.text_skip_special,
      finishReason: 'stop',
      usage: { ...countsOf(sample), completionTokens: sample.reference.token_ids.length },
    })
  })

  it.each(samples)('to $id begin with logits within 2e-3', async (sample) => {
    const tokens = await answer(native, sample)
    for (const [step, expected] of sample.reference.first_steps_top5.entries()) {
      const found = tokens[step]?.topLogits ?? []
      expect(found.map(({ id }) => id)).toEqual(expected.map(({ id }) => id))
      const errors = expected.map(({ logit }, i) => Math.abs((found[i]?.logit ?? NaN) - logit))
      expect(Math.max(...errors)).toBeLessThan(2e-3)
    }
  })
})

describe('an answer and its logits, bit for bit,', () => {
  // Text, one image, several images, a video, a conversation, an image behind text.
  const chosen = [
    'text-math',
    'ocr-hello',
    'three-images-which',
    'video-direction',
    'multi-turn-turn3',
    'describe-three',
  ].map(sampleOf)

  const answersOf = async (options: Partial<NativeLoadOptions>, together: boolean) => {
    const native = await loadTiny(options)
    try {
      if (together) return await Promise.all(chosen.map((sample) => answer(native, sample)))
      const answers = []
      for (const sample of chosen) answers.push(await answer(native, sample))
      return answers
    } finally {
      await native.dispose()
    }
  }

  let alone: Awaited<ReturnType<typeof answersOf>>
  beforeAll(async () => void (alone = await answersOf({ threads: 1 }, false)))

  it('do not depend on the number of threads', async () => {
    expect(await answersOf({ threads: 2 }, false)).toEqual(alone)
    expect(await answersOf({ threads: 3 }, false)).toEqual(alone)
  })

  it.each([1, 7, 64])('do not depend on prefill in chunks of %i', async (prefillChunk) => {
    expect(await answersOf({ prefillChunk }, false)).toEqual(alone)
  })

  it('do not depend on requests that share the steps', async () => {
    expect(await answersOf({}, true)).toEqual(alone)
  })

  it('do not depend on who the neighbours are', async () => {
    const native = await loadTiny({ prefillChunk: 48 })
    for (const [i, sample] of chosen.entries()) {
      const neighbours = Array.from(
        { length: 7 },
        (_, k) => samples[(5 * i + 3 * k) % samples.length]!,
      )
      const [tokens] = await Promise.all([sample, ...neighbours].map((one) => answer(native, one)))
      expect(tokens).toEqual(alone[i])
    }
    await native.dispose()
  })

  it('do not depend on a KV pool so small that requests are preempted', async () => {
    const native = await loadTiny({ kvCacheTokens: 512, maxContext: 512, prefillChunk: 64 })
    // Answers that go on behind their end, so that they outgrow the pool together.
    const prompts = await Promise.all(chosen.map(promptOf))
    const long = async ({ tokenIds, items }: (typeof prompts)[number]) => {
      const stopIds = new Int32Array(0)
      const request = textRequest({
        prompt: tokenIds,
        items,
        stopIds,
        maxTokens: 200,
        topLogits: 5,
      })
      return (await run(native, request).end).tokens
    }
    const oneByOne = []
    for (const prompt of prompts) oneByOne.push(await long(prompt))
    expect(native.metrics().preemptions).toBe(0)
    // Sent in one go: all of them run at once, however fast the machine is.
    expect(await Promise.all(prompts.map(long))).toEqual(oneByOne)
    expect(native.metrics().preemptions).toBeGreaterThan(0)
    await native.dispose()
  })
})
