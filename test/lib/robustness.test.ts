/** A thousand bad requests among good ones: each is refused by name, and nothing else notices. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { loadModel, Qwen2VLError, type GenerateRequest, type Model } from '../../lib/index.js'
import { requestOf, samples, tinyFolder } from './generation/tiny-samples.js'

let model: Model
beforeAll(async () => void (model = await loadModel('tiny', { maxQueue: 4096 })))
afterAll(() => model.dispose())

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

/** Whole numbers below `limit`, the same ones in every run. */
let state = 20240912
function random(limit: number): number {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0
  return Math.floor((state / 2 ** 32) * limit)
}
const pick = <T>(items: readonly T[]): T => items[random(items.length)]!
const bytes = (length: number) => Uint8Array.from({ length }, () => random(256))

const png = readFileSync(join(tinyFolder, 'images', 'ocr-hello.png'))
const jpeg = readFileSync(join(tinyFolder, 'images', 'describe-three.jpg'))
const hello = [{ role: 'user', content: 'Who are you?' }]
const about = (part: unknown) => [
  { role: 'user', content: [part, { type: 'text', text: 'What is this?' }] },
]
const pixels = (width: number, height: number, length = width * height * 3) => ({
  data: bytes(length),
  width,
  height,
  channels: 3,
})

/** Values that are right nowhere among the options below. */
const wrongValues = [NaN, Infinity, -1, 'much', {}, [], true, () => 1, Symbol('x'), 5n, new Date()]
const numericOptions = [
  ...['maxTokens', 'max_tokens', 'temperature', 'topP', 'top_p', 'topK', 'minP', 'n', 'seed'],
  ...['repetitionPenalty', 'noRepeatNgramSize', 'timeoutMs', 'topLogprobs', 'max_new_tokens'],
]
const misspelt = ['max_token', 'temprature', 'topp', 'stopp', 'sed', 'mesages', 'logprob', 'x', '']

/** Sources that are no pictures, or none that can be used. */
const badImages: (() => unknown)[] = [
  () => bytes(random(4000)),
  () => png.subarray(0, random(png.length / 2)),
  () => jpeg.subarray(0, random(200)),
  () => Buffer.concat([png.subarray(0, 16), Buffer.from(bytes(500))]),
  () => join(tinyFolder, 'images', `missing-${random(1000)}.png`),
  () => tinyFolder,
  () => `data:image/png;base64,${Buffer.from(bytes(300)).toString('base64')}`,
  () => `data:image/png;base64,${png.toString('base64').slice(0, random(80))}`,
  () => `data:text/plain,${random(100)}`,
  () => 'ftp://example.com/a.png',
  () => 'http://127.0.0.1:9/a.png',
  () => new URL('http://169.254.169.254/latest/meta-data'),
  () => pixels(1 + random(4), 1000 + random(500)),
  () => pixels(20, 20, random(1199)),
  () => ({ data: bytes(4), width: 0, height: 0, channels: 3 }),
  () => ({ data: bytes(12), width: 2, height: 2, channels: 7 }),
  () => ({ data: bytes(12), width: -2, height: 2, channels: 3 }),
  () => pick([null, undefined, 5, true, {}, [], '', new Map(), () => png]),
]
const image = () => ({ type: 'image', image: pick(badImages)() })

const badMessages: (() => unknown)[] = [
  () => pick([null, 5, 'Hello', {}, [], [null], [5], [[]], [{}], ['Hello']]),
  () => [{ role: pick(['robot', 5, null, undefined, '']), content: 'Hello' }],
  () => [{ role: 'user', content: pick([5, {}, [5], [null], [[]], true]) }],
  () => [{ role: 'user', content: [{ type: pick(['audio', 'txt', 5, null, '']), text: 'x' }] }],
  () => [{ role: 'user', content: [{ type: 'text', text: pick([5, null, {}, []]) }] }],
  () => [{ role: 'user', content: 'Hello', extra: 1 }],
  () => about({ type: 'image', image: png, max_pixel: 5 }),
  () => about({ type: 'image', image: png, maxPixels: pick([-5, 0, NaN, 'many', 1.5]) }),
  () => about({ type: 'image', image: png, minPixels: 100_000, maxPixels: 50_000 }),
  () => about({ type: 'image', image: png, resizedHeight: 56 }),
  () => about({ type: 'image', image: png, fps: 2 }),
  () => about({ type: 'video', video: pick([[], 5, null, [5], [null], [png, 'missing.png']]) }),
  () => about({ type: 'video', video: [png, jpeg.subarray(0, 100)] }),
  () => [{ role: 'user', content: `What is <|image_pad|>${' again'.repeat(random(5))}?` }],
  () => [{ role: 'user', content: 'word '.repeat(4000 + random(2000)) }],
]

/** Has no end that it could reach in time. */
const endless = {
  messages: hello,
  logitBias: { '<|im_end|>': -100, '<|endoftext|>': -100 },
  maxTokens: 1900,
}

const badRequests: (() => unknown)[] = [
  () => pick([null, undefined, 5, 'Hello', [], {}, () => 1, Symbol('x')]),
  () => ({ messages: pick(badMessages)() }),
  () => ({ messages: pick(badMessages)() }),
  () => ({ messages: about(image()) }),
  () => ({ messages: about(image()) }),
  () => ({ messages: [...about({ type: 'image', image: png }), ...about(image())] }),
  () => ({ messages: hello, [pick(numericOptions)]: pick(wrongValues) }),
  () => ({ messages: hello, [pick(misspelt)]: 1 }),
  () => ({ messages: hello, stop: pick([5, {}, [''], [5], '', '\ud800', [null]]) }),
  () => ({
    messages: hello,
    logitBias: pick([5, [1], { 5: 'x' }, { 99999: 1 }, { 'a b c d': 1 }]),
  }),
  () => ({ messages: hello, signal: pick([5, {}, 'now', new AbortController()]) }),
  () => ({ messages: hello, onAbort: pick(['stop', 5, {}, true]) }),
  () => ({
    messages: hello,
    chatTemplate: pick([5, '', '{% if %}', '{{ raise_exception("no") }}']),
  }),
  () => ({ messages: hello, doSample: true, temperature: 0 }),
  () => ({ messages: hello, maxTokens: 5, max_tokens: 6 }),
  () => ({ messages: hello, prompt: 'Hello' }),
  () => ({ prompt: pick([5, {}, [5], [{ type: 'text' }]]) }),
  () => ({ messages: hello, signal: AbortSignal.abort() }),
  () => ({ ...endless, timeoutMs: 1 + random(20) }),
  () => ({
    messages: hello,
    [pick(['functions', 'response_format', 'num_beams'])]: pick([[], {}, 1]),
  }),
]

interface Outcome {
  request: unknown
  error: unknown
}

/** The error of a request, through whichever method; undefined if it was answered after all. */
async function errorOf(request: unknown): Promise<Outcome> {
  const given = request as GenerateRequest
  const [batched] = random(8) === 0 ? await model.generateBatch([given]) : []
  if (batched !== undefined) return { request, error: batched instanceof Error && batched }
  try {
    if (random(4) > 0) {
      await model.generate(given)
    } else {
      const events = model.stream(given)[Symbol.asyncIterator]()
      while (!(await events.next()).done);
    }
    return { request, error: undefined }
  } catch (error) {
    return { request, error }
  }
}

const isTyped = (error: unknown) =>
  Qwen2VLError.isInstance(error)
    ? error.message.length > 20 && error.code.startsWith('ERR_')
    : error instanceof DOMException && error.name === 'AbortError'

it('refuses 1,000 bad requests by name and answers the good ones among them', async () => {
  const total = 1000
  const inWave = 40
  const rss: number[] = []
  const codes = new Set<string>()
  for (let wave = 0; wave < total / inWave; ++wave) {
    const bad = Array.from({ length: inWave }, () => errorOf(pick(badRequests)()))
    const good = Array.from({ length: 3 }, () => pick(samples))
    const answers = good.map((sample) => model.generate(requestOf(sample)))
    const outcomes = await Promise.all(bad)
    for (const { request, error } of outcomes) {
      if (!isTyped(error)) console.error('bad request:', request, 'gave', error)
      expect(isTyped(error)).toBe(true)
      codes.add(Qwen2VLError.isInstance(error) ? error.code : 'an abort')
    }
    const ids = (await Promise.all(answers)).map(({ tokenIds }) => tokenIds)
    expect(ids).toEqual(good.map(({ reference }) => reference.token_ids))
    collectGarbage()
    rss.push(process.memoryUsage.rss())
  }

  // The requests are bad in many ways, not in one many times.
  expect([...codes]).toEqual(
    expect.arrayContaining([
      ...['ERR_INVALID_ARGUMENT', 'ERR_CONTEXT_LENGTH', 'ERR_TIMEOUT', 'an abort'],
      ...['ERR_IMAGE_DECODE', 'ERR_ASPECT_RATIO', 'ERR_IMAGE_NOT_FOUND', 'ERR_FETCH_BLOCKED'],
    ]),
  )
  while (model.metrics().running + model.metrics().waiting > 0) {
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  await model.clearCache()
  expect(model.metrics()).toMatchObject({ running: 0, waiting: 0, kvBlocksUsed: 0 })
  // Caches and allocators fill in the first half; nothing grows with each request after it.
  const middle = Math.max(...rss.slice(0, rss.length / 2))
  expect(rss.at(-1)! - middle).toBeLessThan(48 * 2 ** 20)
}, 60_000)
