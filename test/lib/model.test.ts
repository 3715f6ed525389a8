import { execFile } from 'node:child_process'
import { getEventListeners } from 'node:events'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  CheckpointError,
  ContextLengthError,
  DisposedError,
  ImageError,
  InvalidArgumentError,
  loadModel,
  ModelNotFoundError,
  OutOfMemoryError,
  QueueFullError,
  type GenerateRequest,
  type GenerationEvent,
  type LoadProgress,
  type Model,
} from '../../lib/index.js'
import { packageRoot } from '../../lib/package-root.js'
import { countsOf, requestOf, sampleOf, samples, tinyFolder } from './generation/tiny-samples.js'

let model: Model
beforeAll(async () => void (model = await loadModel('tiny')))
afterAll(() => model.dispose())

const hello: GenerateRequest = { messages: [{ role: 'user', content: 'Who are you?' }] }

/** The model may not end its answer by itself. */
const endless = (
  changes: Partial<Extract<GenerateRequest, { messages: unknown }>> = {},
): GenerateRequest => ({
  ...hello,
  temperature: 100,
  logitBias: { '<|im_end|>': -1e9, '<|endoftext|>': -1e9 },
  maxTokens: 1900,
  ...changes,
})

async function collect<T>(source: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = []
  for await (const item of source) items.push(item)
  return items
}

/** Waits until the engine has nothing left to do. */
async function idle(loaded = model): Promise<void> {
  for (;;) {
    const { running, waiting } = loaded.metrics()
    if (running + waiting === 0) return
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
}

describe('loadModel', () => {
  it('says what it loaded and where it runs', () => {
    expect(model.info).toMatchObject({
      folder: tinyFolder,
      architecture: 'Qwen2VLForConditionalGeneration',
      device: {
        kind: 'cpu',
        name: expect.stringMatching(/./) as string,
        instructionSet: expect.stringMatching(
          /^(avx512_vnni|avx512|avx_vnni|avx2|sse42|neon_dotprod|neon|scalar)$/,
        ) as string,
        threads: expect.any(Number) as number,
        reason: expect.stringMatching(/CUDA/) as string,
      },
      dtype: 'bf16',
      quantization: { quantization: 'none', visionQuantization: 'none', activations: 'fp32' },
      parameters: 5_549_440,
      weightBytes: 2 * 5_549_440,
      contextSize: 2048,
      kvCache: { dtype: 'fp32', bytesPerToken: 2 * 4 * 2 * 32 * 4 },
    })
    expect(model.info.kvCache.tokens).toBeGreaterThanOrEqual(2048)
  })

  it('takes a folder, a file: URL and a URL object, each as often as wanted', async () => {
    const models = await Promise.all([
      loadModel(tinyFolder, { threads: 1 }),
      loadModel(`file://${tinyFolder}`, { contextSize: 512 }),
      loadModel(new URL(`file://${tinyFolder}/`), { kvCacheType: 'bf16', dtype: 'fp32' }),
    ])
    expect(models.map(({ info }) => [info.contextSize, info.kvCache.dtype, info.dtype])).toEqual([
      [2048, 'fp32', 'bf16'],
      [512, 'fp32', 'bf16'],
      [2048, 'bf16', 'fp32'],
    ])
    expect(models[0].info.device.threads).toBe(1)
    const answers = await Promise.all(models.map((one) => one.generate(hello)))
    expect(new Set(answers.map(({ text }) => text)).size).toBe(1)
    await Promise.all(models.map((one) => one.dispose()))
  })

  it('reports files, weights and the end', async () => {
    const reports: LoadProgress[] = []
    const loaded = await loadModel('tiny', { onProgress: (progress) => reports.push(progress) })
    expect(reports[0]).toEqual({ phase: 'files', loadedBytes: 0, totalBytes: 0 })
    const bytes = loaded.info.weightBytes
    expect(reports.at(-1)).toEqual({ phase: 'ready', loadedBytes: bytes, totalBytes: bytes })
    expect(new Set(reports.map(({ phase }) => phase))).toEqual(
      new Set(['files', 'weights', 'ready']),
    )
    await loaded.dispose()
  })

  it('answers the same from mapped weights', async () => {
    const mapped = await loadModel('tiny', { weights: 'mapped' })
    expect([model.info.weights, mapped.info.weights]).toEqual(['packed', 'mapped'])
    const [one, other] = await Promise.all([model.generate(hello), mapped.generate(hello)])
    expect(other.text).toBe(one.text)
    await mapped.dispose()
  })

  it('refuses to convert mapped weights', async () => {
    const load = loadModel('tiny', { weights: 'mapped', dtype: 'fp32' })
    await expect(load).rejects.toMatchObject({ name: 'InvalidArgumentError', path: 'weights' })
    await expect(load).rejects.toThrow(/bf16.*fp32.*'packed'/s)
    await (await loadModel('tiny', { weights: 'mapped', dtype: 'bf16' })).dispose()
  })

  it.each([{ quantization: 'int4' }, { visionQuantization: 'int8' }] as const)(
    'refuses to quantise mapped weights: %o',
    async (options) => {
      const load = loadModel('tiny', { weights: 'mapped', ...options })
      await expect(load).rejects.toMatchObject({ name: 'InvalidArgumentError', path: 'weights' })
      await expect(load).rejects.toThrow(/quantised.*'packed'/s)
    },
  )

  it('maps with the defaults of quantisation spelt out', async () => {
    const options = { weights: 'mapped', quantization: 'none', visionQuantization: 'none' } as const
    await (await loadModel('tiny', options)).dispose()
  })

  it('ends with the error of a progress callback that fails', async () => {
    const onProgress = ({ phase }: LoadProgress) => {
      if (phase === 'weights') throw new Error('no more')
    }
    await expect(loadModel('tiny', { onProgress })).rejects.toThrow('no more')
  })

  it('rejects with the reason of its signal, before and during the load', async () => {
    const reason = new Error('not now')
    await expect(loadModel('tiny', { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    for (const phase of ['files', 'weights', 'ready']) {
      const controller = new AbortController()
      const load = loadModel('tiny', {
        signal: controller.signal,
        onProgress: (progress) => {
          if (progress.phase === phase) controller.abort(reason)
        },
      })
      await expect(load).rejects.toBe(reason)
      expect(getEventListeners(controller.signal, 'abort')).toHaveLength(0)
    }
  })

  it('explains a missing folder, and a model that is not in the cache', async () => {
    await expect(loadModel('/no/such/folder')).rejects.toThrow(ModelNotFoundError)
    const unknown = loadModel('owner/not-downloaded', { offline: true })
    await expect(unknown).rejects.toThrow(/qwen2-vl download owner/)
    await expect(loadModel('https://example.com/model')).rejects.toThrow(ModelNotFoundError)
    await expect(loadModel(packageRoot)).rejects.toThrow(CheckpointError)
    await expect(loadModel(5 as never)).rejects.toThrow(InvalidArgumentError)
  })

  it('refuses CUDA with the reason', async () => {
    for (const device of ['cuda', 'cuda:1'] as const) {
      await expect(loadModel('tiny', { device })).rejects.toMatchObject({
        code: 'ERR_BACKEND_UNAVAILABLE',
        details: { device, reason: expect.stringContaining('CUDA') as string },
      })
    }
  })

  it.each([
    [{ divice: 'cpu' }, 'divice', 'device'],
    [{ max_concurrency: 4 }, 'max_concurrency', 'maxConcurrency'],
    [{ device: 'gpu' }, 'device', undefined],
    [{ dtype: 'int4' }, 'dtype', undefined],
    [{ contextSize: 0 }, 'contextSize', undefined],
    [{ threads: 1.5 }, 'threads', undefined],
    [{ onProgress: 5 }, 'onProgress', undefined],
    [{ quantization: 'int2' }, 'quantization', undefined],
    [{ visionQuantization: 'int4' }, 'visionQuantization', undefined],
    [{ vision_quantization: 'int8' }, 'vision_quantization', 'visionQuantization'],
    [{ activations: 'bf16' }, 'activations', undefined],
  ])('refuses the options %j', async (options, path, suggestion) => {
    await expect(loadModel('tiny', options as never)).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      path,
      suggestion,
    })
  })

  it('refuses a memory limit that is too small, before it reads weights', async () => {
    await expect(loadModel('tiny', { memoryLimit: 1e6 })).rejects.toMatchObject({
      code: 'ERR_OUT_OF_MEMORY',
      details: { availableBytes: 1e6 },
    })
    await expect(loadModel('tiny', { memoryLimit: 11.2e6 })).rejects.toThrow(OutOfMemoryError)
  })

  it('shrinks the context to what a memory limit leaves', async () => {
    const limited = await loadModel('tiny', { memoryLimit: 11_109_528 + 1000 * 2048 })
    expect(limited.info.contextSize).toBe(1000)
    await limited.dispose()
  })
})

describe('generate', () => {
  it('answers about an image given as path, file: URL, bytes, data: URL and OpenAI part', async () => {
    const path = join(tinyFolder, 'images', 'ocr-hello.png')
    const bytes = await readFile(path)
    const data = `data:image/png;base64,${bytes.toString('base64')}`
    const parts = [
      { type: 'image' as const, image: path },
      { type: 'image' as const, image: new URL(`file://${path}`) },
      { type: 'image' as const, image: bytes },
      { type: 'image' as const, image: data },
      { type: 'image_url' as const, image_url: { url: data } },
    ]
    const text = { type: 'text' as const, text: 'What does the text say?' }
    const results = await Promise.all(
      parts.map((part) => model.generate({ messages: [{ role: 'user', content: [part, text] }] })),
    )
    for (const result of results) {
      expect(result.text).toBe('The text says "HELLO".')
      expect(result.images).toMatchObject([
        { width: 196, height: 84, resizedWidth: 196, resizedHeight: 84, tokens: 21 },
      ])
    }
  })

  it('tells where the time went', async () => {
    const { timings, usage } = await model.generate(requestOf(sampleOf('describe-three')))
    expect(usage).toMatchObject({ ...countsOf(sampleOf('describe-three')), cachedTokens: 0 })
    for (const name of ['queueMs', 'preprocessMs', 'visionMs', 'prefillMs', 'decodeMs'] as const) {
      expect(timings[name]).toBeGreaterThanOrEqual(0)
    }
    expect(timings.visionMs).toBeGreaterThan(0)
    expect(timings.firstTokenMs).toBeGreaterThanOrEqual(timings.preprocessMs)
    expect(timings.tokensPerSecond).toBeCloseTo(
      (usage.completionTokens - 1) / (timings.decodeMs / 1000),
      6,
    )
  })

  it('ends with "length" at maxTokens, in any spelling', async () => {
    const { tokenIds, finishReason, options } = await model.generate({
      ...hello,
      max_new_tokens: 3,
    })
    expect(tokenIds).toHaveLength(3)
    expect(finishReason).toBe('length')
    expect(options.maxTokens).toBe(3)
  })

  it('ends with "length" at the end of the context', async () => {
    const small = await loadModel('tiny', { contextSize: 48 })
    // Too hot to find the end by itself; the seed makes that certain.
    const request = { ...hello, temperature: 100, seed: 1, maxTokens: 1000 }
    const { usage, finishReason, options } = await small.generate(request)
    expect(finishReason).toBe('length')
    expect(usage.promptTokens + usage.completionTokens).toBe(48)
    expect(options.maxTokens).toBe(usage.completionTokens)
    await small.dispose()
  })

  it("is nearly greedy by default, as the checkpoint's file says, and says so", async () => {
    const { options, text } = await model.generate(hello)
    expect(options).toMatchObject({ temperature: 0.01, topK: 1, topP: 0.001, maxTokens: 1024 })
    expect(text).toBe((await model.generate({ ...hello, temperature: 0 })).text)
  })

  it('repeats a sampled answer with its seed', async () => {
    const hot = { ...hello, temperature: 3, maxTokens: 40 }
    const first = await model.generate(hot)
    const again = await model.generate({ ...hot, seed: first.seed })
    expect(again.tokenIds).toEqual(first.tokenIds)
    const others = await Promise.all([1, 2, 3].map((seed) => model.generate({ ...hot, seed })))
    expect(new Set(others.map(({ text }) => text)).size).toBe(3)
  })

  it('gives sampled answers that do not depend on neighbours', async () => {
    const seeds = [11, 12, 13, 14]
    const one = (seed: number) => model.generate({ ...hello, temperature: 3, maxTokens: 40, seed })
    const together = await Promise.all(seeds.map(one))
    for (const [i, seed] of seeds.entries()) {
      expect((await one(seed)).tokenIds).toEqual(together[i]!.tokenIds)
    }
  })

  it('applies penalties', async () => {
    const plain = await model.generate({ ...hello, temperature: 0 })
    const penalised = await model.generate({ ...hello, temperature: 0, repetition_penalty: 100 })
    expect(penalised.tokenIds).not.toEqual(plain.tokenIds)
    expect(penalised.options.repetitionPenalty).toBe(100)
  })

  it('ends before a stop string that straddles tokens', async () => {
    const request = requestOf(sampleOf('ocr-hello'))
    const { text, finishReason, tokenIds } = await model.generate({
      ...request,
      stop: ['says "HEL'],
    })
    expect(text).toBe('The text ')
    expect(finishReason).toBe('stop')
    expect(tokenIds).toEqual(sampleOf('ocr-hello').reference.token_ids.slice(0, tokenIds.length))
    const unmet = await model.generate({ ...request, stop: ['HELLO.', 'HELLO"!'] })
    expect(unmet.text).toBe('The text says "HELLO".')
  })

  it("takes a caller's chat template, and continues an answer that was begun", async () => {
    const chatTemplate =
      "<|im_start|>user\n{{ messages[0]['content'] }}<|im_end|>\n<|im_start|>assistant\n"
    const { usage } = await model.generate({ ...hello, chatTemplate, maxTokens: 1 })
    const full = await model.generate({ ...hello, maxTokens: 1 })
    expect(usage.promptTokens).toBeLessThan(full.usage.promptTokens)
    const without = await model.countTokens({ ...hello, addGenerationPrompt: false })
    expect(without.promptTokens).toBeLessThan(full.usage.promptTokens)
    await expect(model.generate({ ...hello, chatTemplate: '{% if %}' })).rejects.toThrow(
      InvalidArgumentError,
    )
  })

  it.each<[string, object, new (...args: never[]) => Error, object]>([
    ['an unknown option', { max_token: 5 }, InvalidArgumentError, { suggestion: 'max_tokens' }],
    ['an unsupported option', { store: true }, InvalidArgumentError, { path: 'store' }],
    ['no messages', { messages: [] }, InvalidArgumentError, { path: 'messages' }],
    [
      'a bad part',
      { messages: [{ role: 'user', content: [{ type: 'imgae' }] }] },
      InvalidArgumentError,
      { path: 'messages[0].content[0].type', suggestion: 'image' },
    ],
    [
      'a picture that is none',
      { messages: [{ role: 'user', content: [{ type: 'image', image: Buffer.from('x') }] }] },
      ImageError,
      { code: 'ERR_IMAGE_DECODE', index: 0 },
    ],
    [
      'a placeholder in the text',
      { messages: [{ role: 'user', content: 'What is <|image_pad|>?' }] },
      InvalidArgumentError,
      { path: 'messages' },
    ],
    [
      'a prompt that is too long',
      { messages: [{ role: 'user', content: 'one two '.repeat(2000) }] },
      ContextLengthError,
      { details: { limit: 2048 } },
    ],
  ])('rejects %s', async (_, changes, type, fields) => {
    let rejected: unknown
    // A wrong request rejects too; it never throws where it is called.
    await model.generate({ ...hello, ...changes }).catch((error: unknown) => (rejected = error))
    expect(rejected).toBeInstanceOf(type)
    const { details = {}, ...rest } = fields as { details?: object }
    expect(rejected).toMatchObject({ ...rest, details })
    expect((rejected as Error).message.length).toBeGreaterThan(20)
  })

  it('refuses more requests than may wait', async () => {
    const small = await loadModel('tiny', { maxConcurrency: 1, maxQueue: 1 })
    const controller = new AbortController()
    const requests = Array.from({ length: 4 }, () =>
      small.generate(endless({ signal: controller.signal })),
    )
    const refused = await Promise.race(requests.map((request) => request.catch((e: unknown) => e)))
    expect(refused).toBeInstanceOf(QueueFullError)
    controller.abort()
    await Promise.allSettled(requests)
    await small.dispose()
  })
})

describe('countTokens', () => {
  it.each(samples)('counts $id without running the model', async (sample) => {
    const { images, videos, ...counts } = await model.countTokens(requestOf(sample))
    expect(counts).toEqual(countsOf(sample))
    expect(images).toHaveLength(sample.image_grid_thw.length)
    expect(images.map(({ tokens }) => tokens)).toEqual(
      sample.image_grid_thw.map(([t, h, w]) => (t! * h! * w!) / 4),
    )
    expect(videos.map(({ tokens }) => tokens)).toEqual(
      sample.video_grid_thw.map(([t, h, w]) => (t! * h! * w!) / 4),
    )
  })
})

describe('stream', () => {
  it('yields start, the text in pieces, and the end', async () => {
    const stream = model.stream(requestOf(sampleOf('ocr-hello')))
    const events = await collect(stream)
    const result = await stream.result
    expect(events[0]).toEqual({
      type: 'start',
      usage: {
        ...countsOf(sampleOf('ocr-hello')),
        cachedTokens: 0,
        completionTokens: 0,
        draftTokens: 0,
        acceptedDraftTokens: 0,
      },
      images: [{ width: 196, height: 84, resizedWidth: 196, resizedHeight: 84, tokens: 21 }],
    })
    const pieces = events.filter(
      (event): event is GenerationEvent & { type: 'text' } => event.type === 'text',
    )
    expect(pieces.length).toBeGreaterThan(3)
    expect(pieces.map(({ text }) => text).join('')).toBe(result.text)
    expect(pieces.map(({ tokenId }) => tokenId)).toEqual(result.tokenIds.slice(0, -1))
    expect(events.at(-1)).toEqual({
      type: 'finish',
      finishReason: 'stop',
      usage: result.usage,
      timings: result.timings,
    })
  })

  it('never yields half a character', async () => {
    const stream = model.stream(requestOf(sampleOf('text-zh')))
    const pieces = await collect(stream.textStream)
    expect(pieces.join('')).toBe(sampleOf('text-zh').reference.text_skip_special)
    for (const piece of pieces) expect(piece).not.toMatch(/\ufffd/)
  })

  it('cancels the request when the loop is left', async () => {
    const stream = model.stream(endless())
    let count = 0
    for await (const event of stream) if (event.type === 'text' && ++count === 3) break
    await expect(stream.result).rejects.toMatchObject({ name: 'AbortError' })
    await idle()
    expect(model.metrics().kvBlocksUsed).toBe(0)
  })

  it('rejects iterator and result alike for a wrong request', async () => {
    const stream = model.stream({ ...hello, topk: 1 } as GenerateRequest)
    await expect(collect(stream)).rejects.toMatchObject({ suggestion: 'topK' })
    await expect(stream.result).rejects.toMatchObject({ suggestion: 'topK' })
  })

  it('lets a slow reader wait alone', async () => {
    const slow = model.stream(requestOf(sampleOf('describe-three')))
    const iterator = slow[Symbol.asyncIterator]()
    await iterator.next()
    // Others are answered meanwhile, and so is this one.
    const fast = await model.generate(requestOf(sampleOf('text-math')))
    expect(fast.text).toBe(sampleOf('text-math').reference.text_skip_special)
    const { text } = await slow.result
    const rest = await collect({ [Symbol.asyncIterator]: () => iterator })
    expect(rest.map((event) => (event.type === 'text' ? event.text : '')).join('')).toBe(text)
  })
})

describe('an abort', () => {
  it('rejects with the reason of a signal that is aborted already, before any work', async () => {
    const reason = new Error('changed my mind')
    const { promptTokens } = model.metrics()
    await expect(model.generate({ ...hello, signal: AbortSignal.abort(reason) })).rejects.toBe(
      reason,
    )
    expect(model.metrics().promptTokens).toBe(promptTokens)
  })

  it('rejects with an AbortError by default and with a TimeoutError for a timeout', async () => {
    const controller = new AbortController()
    const aborted = model.generate(endless({ signal: controller.signal }))
    controller.abort()
    await expect(aborted).rejects.toMatchObject({ name: 'AbortError' })
    await expect(model.generate(endless({ signal: AbortSignal.timeout(1) }))).rejects.toMatchObject(
      {
        name: 'TimeoutError',
      },
    )
  })

  it('works while images are prepared', async () => {
    const controller = new AbortController()
    const data = new Uint8Array(4000 * 3000 * 3)
    const image = { data, width: 4000, height: 3000, channels: 3 as const }
    const content = [
      { type: 'image' as const, image },
      { type: 'image' as const, image },
    ]
    const answer = model.generate({
      messages: [{ role: 'user', content }],
      signal: controller.signal,
    })
    setImmediate(() => controller.abort(new Error('too slow')))
    await expect(answer).rejects.toThrow('too slow')
    expect(getEventListeners(controller.signal, 'abort')).toHaveLength(0)
  })

  it('stops the engine within a moment and frees its blocks', async () => {
    const controller = new AbortController()
    const stream = model.stream(endless({ signal: controller.signal }))
    const iterator = stream.textStream[Symbol.asyncIterator]()
    await iterator.next()
    controller.abort(new Error('enough'))
    await expect(stream.result).rejects.toThrow('enough')
    const { generatedTokens } = model.metrics()
    await idle()
    expect(model.metrics().kvBlocksUsed).toBe(0)
    expect(model.metrics().generatedTokens - generatedTokens).toBeLessThan(100)
  })

  it('leaves nothing on a signal that serves many requests', async () => {
    const { signal } = new AbortController()
    const answers = await Promise.all(
      Array.from({ length: 12 }, () => model.generate({ ...hello, maxTokens: 2, signal })),
    )
    expect(answers).toHaveLength(12)
    expect(getEventListeners(signal, 'abort')).toHaveLength(0)
  })
})

describe('dispose', () => {
  it('rejects running requests, then refuses new ones, and may be called again', async () => {
    const other = await loadModel('tiny')
    const answer = other.generate(endless())
    const stream = other.stream(endless())
    await stream[Symbol.asyncIterator]().next()
    const disposed = other.dispose()
    await expect(answer).rejects.toThrow(DisposedError)
    await expect(stream.result).rejects.toThrow(DisposedError)
    await disposed
    await other.dispose()
    await expect(other.generate(hello)).rejects.toThrow(DisposedError)
    await expect(other.countTokens(hello)).rejects.toThrow(DisposedError)
    await expect(collect(other.stream(hello))).rejects.toThrow(DisposedError)
    expect(other.metrics().running).toBe(0)
  })

  it('happens at the end of an await using block', async () => {
    let outer: Model
    {
      await using inner = await loadModel('tiny')
      outer = inner
      expect((await inner.generate({ ...hello, maxTokens: 1 })).tokenIds).toHaveLength(1)
    }
    await expect(outer.generate(hello)).rejects.toThrow(DisposedError)
  })
})

it('serves 16 streams, half of them cancelled at random moments, and ends as it began', async () => {
  const script = fileURLToPath(new URL('./fixtures/many-streams.ts', import.meta.url))
  // In a process of its own, which must end by itself without dispose().
  const { stdout, stderr } = await promisify(execFile)(
    process.execPath,
    ['--expose-gc', '--import', 'tsx', script],
    { timeout: 55_000 },
  )
  expect(stderr).toBe('')
  const report = JSON.parse(stdout) as { growth: number }
  expect(report).toMatchObject({ wrong: [], notCancelled: 0, kvBlocksUsed: 0, running: 0 })
  expect(report.growth).toBeLessThan(40e6)
})
