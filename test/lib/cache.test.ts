/** What requests take over from earlier ones, that it changes no bit of an answer, and how it is given up. */
import { readFile } from 'node:fs/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { Abort } from '../../lib/generation/abort.js'
import { preparePrompt, type PromptContext } from '../../lib/generation/prompt.js'
import {
  DisposedError,
  ImageError,
  InvalidArgumentError,
  loadModel,
  type GenerateRequest,
  type ImageSource,
  type Model,
} from '../../lib/index.js'
import type { NativeModel } from '../../lib/native.js'
import { loadTiny, run, textRequest } from '../addon/tiny.js'
import {
  requestOf,
  sampleOf,
  samples,
  tinyContext,
  tinyFolder,
  type Sample,
} from './generation/tiny-samples.js'

let model: Model
beforeAll(async () => void (model = await loadModel('tiny')))
afterAll(() => model.dispose())
afterEach(() => model.clearCache())

const path = `${tinyFolder}/images/describe-one.png`
/** The question comes first, so that another one makes another prompt from its beginning on. */
const ask = (image: ImageSource, question = 'What do you see?'): GenerateRequest => ({
  messages: [
    { role: 'system', content: question },
    { role: 'user', content: [{ type: 'image', image }] },
  ],
  temperature: 0,
  maxTokens: 20,
})
const misses = () => model.metrics().imageCacheMisses

describe('an answer and its logits, bit for bit,', () => {
  let context: PromptContext
  let native: NativeModel
  beforeAll(async () => {
    context = await tinyContext()
    native = await loadTiny({ kvCacheTokens: 2048, prefillChunk: 40 })
  })
  afterAll(() => native.dispose())
  afterEach(() => native.clearCache())

  const answer = async (sample: Sample, useCache: boolean) => {
    const { messages, add_vision_id: addVisionId, max_new_tokens: maxTokens } = sample
    const prompt = await preparePrompt(context, { messages, addVisionId }, new Abort())
    const { tokenIds, items } = prompt
    const request = textRequest({ prompt: tokenIds, items, maxTokens, topLogits: 5, useCache })
    const { tokens, stats } = await run(native, request).end
    return { tokens, cachedTokens: stats.cachedTokens, reusedItems: stats.reusedItems }
  }

  it('are the same in a later turn that goes on from the earlier ones', async () => {
    const turns = ['multi-turn-turn1', 'multi-turn-turn2', 'multi-turn-turn3'].map(sampleOf)
    const fresh = []
    for (const turn of turns) fresh.push(await answer(turn, false))
    expect(fresh.map(({ cachedTokens }) => cachedTokens)).toEqual([0, 0, 0])
    expect(native.metrics().kvBlocksCached).toBe(0)
    for (const [i, turn] of turns.entries()) {
      const { tokens, cachedTokens, reusedItems } = await answer(turn, true)
      expect(tokens).toEqual(fresh[i]?.tokens)
      expect(reusedItems).toEqual([i > 0])
      // All full blocks of the earlier turn, whose answer the template writes as the model did.
      if (i > 0) {
        const known =
          turns[i - 1]!.prompt_token_ids.length + turns[i - 1]!.reference.token_ids.length - 1
        expect(cachedTokens).toBe(known - (known % 32))
      }
    }
  })

  it('are the same for every sample, alone and together, whoever came before', async () => {
    const fresh = []
    for (const sample of samples) fresh.push((await answer(sample, false)).tokens)
    // The pool holds a part of them only, so that blocks are also given up.
    for (let round = 0; round < 2; ++round) {
      for (const [i, sample] of samples.entries()) {
        expect((await answer(sample, true)).tokens).toEqual(fresh[i])
      }
      const together = await Promise.all(samples.map((sample) => answer(sample, true)))
      expect(together.map(({ tokens }) => tokens)).toEqual(fresh)
      expect(together.some(({ cachedTokens }) => cachedTokens > 0)).toBe(true)
    }
  })
})

describe('a request', () => {
  it('that comes again computes its last tokens only, and tells', async () => {
    const request = requestOf(sampleOf('three-images-which'))
    const first = await model.generate(request)
    const again = await model.generate(request)
    expect(first.usage.cachedTokens).toBe(0)
    expect(first.images.map(({ cached }) => cached)).toEqual([false, false, false])
    const { promptTokens } = first.usage
    expect(again.usage.cachedTokens).toBe(promptTokens - 1 - ((promptTokens - 1) % 32))
    expect(again.images.map(({ cached }) => cached)).toEqual([true, true, true])
    expect(again.tokenIds).toEqual(first.tokenIds)
    const { kvBlocksUsed, kvBlocksCached, cachedPromptTokens } = model.metrics()
    expect(kvBlocksUsed).toBe(0)
    expect(kvBlocksCached).toBeGreaterThanOrEqual(Math.floor(promptTokens / 32))
    expect(cachedPromptTokens).toBeGreaterThanOrEqual(again.usage.cachedTokens)
  })

  it('tells in the last event of a stream what was taken over', async () => {
    const request = requestOf(sampleOf('describe-three'))
    const { usage } = (await model.generate(request), await model.stream(request).result)
    for await (const event of model.stream(request)) {
      if (event.type === 'finish') expect(event.usage).toEqual(usage)
    }
    expect(usage.cachedTokens).toBeGreaterThan(0)
  })

  it('with cache: false takes nothing and leaves nothing', async () => {
    const request = { ...requestOf(sampleOf('describe-three')), cache: false }
    for (let i = 0; i < 2; ++i) {
      const { usage, images } = await model.generate(request)
      expect(usage.cachedTokens).toBe(0)
      expect(images).toMatchObject([{ cached: false }])
    }
    expect(model.metrics()).toMatchObject({ kvBlocksCached: 0, imageCacheBytes: 0 })
  })
})

describe('an image', () => {
  it('that comes again in another prompt is not encoded again, whatever its source', async () => {
    const before = misses()
    const first = await model.generate(ask(path))
    const second = await model.generate(ask(await readFile(path), 'Name the colour.'))
    expect([first, second].map(({ images: [image] }) => image?.cached)).toEqual([false, true])
    expect(second.usage.cachedTokens).toBe(0)
    expect(misses() - before).toBe(1)
    // 4 bytes for each of 256 values of a visual token.
    expect(model.metrics().imageCacheBytes).toBe(first.usage.imageTokens * 256 * 4)
  })

  it('of another size is another image', async () => {
    const before = misses()
    await model.generate(ask(path))
    const small = ask(path, 'Name the colour.')
    const content = [{ type: 'image' as const, image: path, maxPixels: 28 * 28 * 9 }]
    small.messages = [small.messages![0]!, { role: 'user', content }]
    expect((await model.generate(small)).images).toMatchObject([{ cached: false }])
    expect(misses() - before).toBe(2)
  })

  it('in many concurrent requests is encoded once', async () => {
    const before = misses()
    const questions = ['One?', 'Two?', 'Three?', 'Four?', 'Five?', 'Six?']
    const results = await Promise.all(
      questions.map((question) => model.generate(ask(path, question))),
    )
    expect(misses() - before).toBe(1)
    expect(results.filter(({ images: [image] }) => image?.cached === false)).toHaveLength(1)
  })

  it('is encoded each time where the budget is nothing', async () => {
    await using poor = await loadModel('tiny', { imageCacheBytes: 0 })
    await poor.generate(ask(path))
    const { images } = await poor.generate(ask(path, 'Name the colour.'))
    expect(images).toMatchObject([{ cached: false }])
    expect(poor.metrics()).toMatchObject({ imageCacheMisses: 2, imageCacheImages: 0 })
  })

  it('makes room for newer ones within the budget', async () => {
    const { usage } = await model.generate(ask(path))
    await using poor = await loadModel('tiny', { imageCacheBytes: usage.imageTokens * 1024 })
    const other = `${tinyFolder}/images/describe-two.png`
    for (const image of [path, other, path]) await poor.generate(ask(image, `${image.length}?`))
    expect(poor.metrics().imageCacheImages).toBe(1)
    expect(poor.metrics().imageCacheBytes).toBeLessThanOrEqual(usage.imageTokens * 1024)
  })
})

describe('clearCache()', () => {
  it('forgets everything', async () => {
    const request = requestOf(sampleOf('describe-three'))
    await model.generate(request)
    await model.clearCache()
    expect(model.metrics()).toMatchObject({ kvBlocksCached: 0, imageCacheBytes: 0 })
    expect((await model.generate(request)).usage.cachedTokens).toBe(0)
  })

  it('while requests run changes nothing for them', async () => {
    const request = requestOf(sampleOf('multi-turn-turn3'))
    const expected = await model.generate(request)
    const running = Array.from({ length: 4 }, () => model.generate(request))
    for (let i = 0; i < 5; ++i) await model.clearCache()
    for (const { tokenIds } of await Promise.all(running))
      expect(tokenIds).toEqual(expected.tokenIds)
  })

  it('rejects after dispose()', async () => {
    const gone = await loadModel('tiny')
    await gone.dispose()
    await expect(gone.clearCache()).rejects.toThrow(DisposedError)
    await expect(gone.prepareImage(path)).rejects.toThrow(DisposedError)
  })
})

describe('prepareImage()', () => {
  it('gives an image for many requests, encoded once, whatever is cleared', async () => {
    const expected = await model.generate(ask(path))
    await model.clearCache()
    using image = await model.prepareImage(path)
    const [info] = expected.images
    const { width, height, resizedWidth, resizedHeight, tokens } = image
    expect({ width, height, resizedWidth, resizedHeight, tokens, cached: false }).toEqual(info)
    const before = misses()
    const questions = ['What do you see?', 'Name the colour.', 'What do you see?']
    for (const [i, question] of questions.entries()) {
      const { images, tokenIds } = await model.generate(ask(image, question))
      if (i !== 1) expect(tokenIds).toEqual(expected.tokenIds)
      expect(images).toEqual([{ ...info, cached: i > 0 }])
      await model.clearCache()
    }
    expect(misses() - before).toBe(1)
  })

  it('resizes as it is told', async () => {
    using small = await model.prepareImage(path, { maxPixels: 28 * 28 * 9 })
    using other = await model.prepareImage(path, { resized_height: 56, resized_width: 84 })
    expect(small.tokens).toBeLessThanOrEqual(9)
    expect([other.resizedWidth, other.resizedHeight, other.tokens]).toEqual([84, 56, 6])
    const { images, usage } = await model.generate(ask(other))
    expect(images).toMatchObject([{ resizedWidth: 84, resizedHeight: 56 }])
    expect(usage.imageTokens).toBe(6)
    expect((await model.countTokens(ask(other))).imageTokens).toBe(6)
  })

  it('gives frames of a video as well, and images for another model', async () => {
    const frame = (i: number) => `${tinyFolder}/videos/video-direction/frame-00${i}.png`
    const paths = [0, 1, 2, 3, 4].map(frame)
    const video = (frames: readonly ImageSource[]): GenerateRequest => ({
      messages: [
        {
          role: 'user',
          content: [
            { type: 'video', video: frames as string[] },
            { type: 'text', text: 'In which direction does the shape move?' },
          ],
        },
      ],
      temperature: 0,
    })
    const prepared = await Promise.all(paths.map((one) => model.prepareImage(one)))
    const expected = await model.generate(video(paths))
    expect((await model.generate(video(prepared))).tokenIds).toEqual(expected.tokenIds)
    await using other = await loadModel('tiny')
    expect((await other.generate(video(prepared))).tokenIds).toEqual(expected.tokenIds)
    for (const image of prepared) image.dispose()
  })

  it('keeps the image until it is disposed of, and no longer', async () => {
    const image = await model.prepareImage(path)
    await model.generate(ask(image))
    await model.clearCache()
    expect(model.metrics().imageCacheImages).toBe(1)
    image.dispose()
    image.dispose()
    expect(image.disposed).toBe(true)
    await model.clearCache()
    expect(model.metrics().imageCacheImages).toBe(0)
    await expect(model.generate(ask(image))).rejects.toThrow(/disposed of.*prepareImage/)
    await expect(model.generate(ask(image))).rejects.toBeInstanceOf(DisposedError)
  })

  it('gives an image that may outlive its model', async () => {
    const gone = await loadModel('tiny')
    const image = await gone.prepareImage(path)
    await gone.generate(ask(image))
    await gone.dispose()
    expect(gone.metrics()).toMatchObject({ kvBlocksCached: 0, imageCacheBytes: 0 })
    expect((await model.generate(ask(image))).text).not.toBe('')
    image.dispose()
  })

  it('lets an image go that was forgotten without dispose()', async () => {
    await model.generate(ask(await model.prepareImage(path)))
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc') as () => void
    await expect
      .poll(async () => {
        collect()
        await model.clearCache()
        return model.metrics().imageCacheImages
      })
      .toBe(0)
  })

  it('is kept natively by items only', async () => {
    const native = await loadTiny()
    for (const item of [
      undefined,
      {},
      { frames: [], isVideo: false },
      { frames: [5], isVideo: true },
    ]) {
      const expected = expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }) as Error
      expect(() => native.pin(item as never)).toThrow(expected)
      expect(() => native.unpin(item as never)).toThrow(expected)
    }
    await native.dispose()
  })

  it('refuses wrong options, and sizes where the image is used', async () => {
    const prepare = (options: object) => model.prepareImage(path, options)
    await expect(prepare({ maxPixel: 5 })).rejects.toMatchObject({ suggestion: 'maxPixels' })
    await expect(prepare({ maxPixels: 0 })).rejects.toThrow(InvalidArgumentError)
    await expect(prepare({ minPixels: 9, maxPixels: 8 })).rejects.toThrow(/more than maxPixels/)
    await expect(prepare({ resizedWidth: 56 })).rejects.toThrow(/go together/)
    const reason = new Error('not now')
    await expect(prepare({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    await expect(model.prepareImage(Buffer.from('no'))).rejects.toThrow(ImageError)
    using image = await model.prepareImage(path)
    const messages = [
      { role: 'user', content: [{ type: 'image' as const, image, maxPixels: 9999 }] },
    ]
    await expect(model.generate({ messages })).rejects.toThrow(/maxPixels has no effect/)
  })
})
