// What a request will need, told before it runs: counted by hand, and compared with what happens.
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openCheckpoint } from '../../../lib/checkpoint/checkpoint.js'
import type { ModelConfig } from '../../../lib/checkpoint/config.js'
import { estimateRequest, type EstimateInput } from '../../../lib/generation/estimate.js'
import {
  loadModel,
  type ContentPart,
  type GenerateRequest,
  type Model,
} from '../../../lib/index.js'
import { packageRoot } from '../../../lib/package-root.js'
import type { MeasuredItem } from '../../../lib/processor/image.js'
import { hasFfmpeg } from '../processor/clips.js'

const folder = join(packageRoot, 'models', 'qwen2-vl-tiny')
const sizes = { width: 0, height: 0, resizedWidth: 0, resizedHeight: 0 }
const image = (height: number, width: number): MeasuredItem => {
  const tokens = (height * width) / 4
  return { kind: 'image', info: { ...sizes, tokens }, gridThw: [1, height, width], tokens }
}
const video = (frames: number, height: number, width: number): MeasuredItem => {
  const tokens = (Math.ceil(frames / 2) * height * width) / 4
  return {
    kind: 'video',
    info: { ...sizes, tokens, frames, sampledFps: 2 },
    gridThw: [Math.ceil(frames / 2), height, width],
    tokens,
  }
}

/** Sizes of Qwen2-VL-2B. */
const config: ModelConfig = {
  hiddenSize: 1536,
  intermediateSize: 8960,
  numLayers: 28,
  numHeads: 12,
  numKvHeads: 2,
  vocabSize: 151936,
  vision: { depth: 32, embedDim: 1280, numHeads: 16, mlpDim: 5120, outDim: 1536 },
} as ModelConfig
const input = (items: MeasuredItem[], given: Partial<EstimateInput> = {}): EstimateInput => ({
  config,
  contextSize: 32768,
  kvBytesPerToken: 2 * 28 * 256 * 4,
  weightsBytes: 4e9,
  availableBytes: 0,
  isOnGpu: false,
  textTokens: 20,
  maxTokens: 100,
  answers: 1,
  items,
  ...given,
})

describe('estimateRequest()', () => {
  it('a text: keys and values in blocks of 32 tokens', () => {
    const estimate = estimateRequest(input([]))
    expect(estimate).toMatchObject({ promptTokens: 20, visionWorkspaceBytes: 0, visionFlops: 0 })
    expect(estimate.kvBytes).toBe(128 * 57344)
    expect(estimate.peakBytes).toBe(4e9 + 128 * 57344)
    expect(estimate.fits).toBe(true)
    expect(estimateRequest(input([], { answers: 3 })).kvBytes).toBe(320 * 57344)
    const [layers, head] = [28 * (1536 * (3072 + 512) + 3 * 1536 * 8960), 1536 * 151936]
    expect(estimate.prefillFlops).toBe(2 * 20 * layers + 28 * 2 * 1536 * 400 + 2 * head)
  })

  it('an image: residual stream, one segment, one piece of work', () => {
    const estimate = estimateRequest(input([image(98, 146)]))
    const rows = 98 * 146
    const floats =
      rows * 1280 + rows * 4 * 1280 + 512 * (1280 + 5120 + 1176) + 2 * rows * 80 + (rows / 4) * 1536
    expect(estimate.promptTokens).toBe(20 + 3577)
    expect(estimate.visionWorkspaceBytes).toBe(floats * 4 + rows * 196 * 3)
    expect(estimate.visionFlops).toBe(
      32 * (rows * (8 * 1280 ** 2 + 4 * 1280 * 5120) + 4 * 1280 * rows ** 2) +
        rows * 2 * 1280 * (1176 + 4 * 1280 + 1536),
    )
  })

  it('an image on a GPU: activations of 16 bits, pixels on the host', () => {
    const estimate = estimateRequest(input([image(98, 146)], { isOnGpu: true }))
    const rows = 98 * 146
    const floats = rows * (1280 + 80) + 2048 * 1176 + (rows / 4) * 1536
    const halves = rows * 4 * 1280 + 2048 * (1280 + 5120 + 1280)
    expect(estimate.visionWorkspaceBytes).toBe(floats * 4 + halves * 2)
  })

  it('keys and values on a GPU: their memory is not asked for again', () => {
    const long = { maxTokens: 30000, availableBytes: 1e9 }
    expect(estimateRequest(input([], long)).fits).toBe(false)
    expect(estimateRequest(input([], { ...long, isOnGpu: true })).fits).toBe(true)
  })

  it('a video: slices attend to themselves alone, several in one segment', () => {
    const one = estimateRequest(input([video(2, 16, 16)]))
    const many = estimateRequest(input([video(8, 16, 16)]))
    expect(many.visionFlops).toBe(4 * one.visionFlops)
    const rows = 4 * 256
    const floats =
      rows * 1280 + 512 * 4 * 1280 + 512 * (1280 + 5120 + 1176) + 2 * rows * 80 + 256 * 1536
    expect(many.visionWorkspaceBytes).toBe(floats * 4 + 8 * 256 * 196 * 3)
  })

  it('several: the largest workspace, the pixels and tokens of all', () => {
    const [a, b] = [image(40, 40), image(80, 80)]
    const bytes = (...items: MeasuredItem[]) => estimateRequest(input(items)).visionWorkspaceBytes
    expect(bytes(a, b)).toBe(bytes(b) + 1600 * 196 * 3 + 400 * 1536 * 4)
  })

  it('what does not fit the context: the size with which it does', () => {
    const items = [image(256, 256), image(256, 256), video(64, 40, 72)]
    const estimate = estimateRequest(input(items))
    expect(estimate.fits).toBe(false)
    const { suggestedMaxPixels = 0 } = estimate
    const shrunk = (side: number) => {
      const tokens = Math.floor(suggestedMaxPixels / 784) + side
      return input([
        image(2, 2 * tokens),
        image(2, 2 * tokens),
        video(64, 2, 2 * Math.min(tokens, 720)),
      ])
    }
    expect(estimateRequest(shrunk(0)).fits).toBe(true)
    expect(estimateRequest(shrunk(1)).fits).toBe(false)
  })

  it('what does not fit the memory: likewise', () => {
    const given = { availableBytes: 500e6 }
    const estimate = estimateRequest(input([image(256, 256)], given))
    expect(estimate.fits).toBe(false)
    const tokens = (estimate.suggestedMaxPixels ?? 0) / 784
    expect(tokens).toBeGreaterThan(1000)
    expect(estimateRequest(input([image(2, 2 * tokens)], given)).fits).toBe(true)
  })

  it('no suggestion where sizes cannot help', () => {
    expect(estimateRequest(input([], { textTokens: 40000 }))).not.toHaveProperty(
      'suggestedMaxPixels',
    )
    const none = estimateRequest(input([image(8, 8)], { availableBytes: 1000 }))
    expect(none.fits).toBe(false)
    expect(none).not.toHaveProperty('suggestedMaxPixels')
  })
})

describe('a loaded model', () => {
  let model: Model
  beforeAll(async () => void (model = await loadModel('tiny', { contextSize: 512 })))
  afterAll(() => model.dispose())

  const ask = (...media: ContentPart[]): GenerateRequest => ({
    messages: [{ role: 'user', content: [...media, { type: 'text', text: 'What is this?' }] }],
    maxTokens: 4,
  })
  const picture = join(folder, 'images', 'describe-three.jpg')
  const clip = join(folder, 'videos', 'video-direction.mp4')
  const frames = [0, 1, 2, 3, 4].map((i) =>
    join(folder, 'videos', 'video-direction', `frame-00${i}.png`),
  )

  it.each<[string, GenerateRequest]>([
    ['an image', ask({ type: 'image', image: picture })],
    ['frames', ask({ type: 'video', video: frames })],
    [
      'both',
      ask({ type: 'image', image: picture, maxPixels: 3136 }, { type: 'video', video: frames }),
    ],
  ])('%s: the tokens are those of the run', async (_, request) => {
    const { usage, images, videos } = await model.generate(request)
    const { promptTokens, textTokens, imageTokens, videoTokens } = usage
    const counted = await model.countTokens(request)
    expect(counted).toMatchObject({ promptTokens, textTokens, imageTokens, videoTokens, videos })
    expect(images).toMatchObject(counted.images)
    expect(await model.estimate(request)).toMatchObject({ promptTokens, fits: true })
  })

  it('the time is told once the like has been measured', async () => {
    await using fresh = await loadModel('tiny')
    const request = ask({ type: 'image', image: picture })
    expect(await fresh.estimate(request)).not.toHaveProperty('expectedMs')
    const { timings } = await fresh.generate(request)
    const { expectedMs } = await fresh.estimate(request)
    expect(expectedMs!.vision).toBeCloseTo(timings.visionMs, 6)
    expect(expectedMs!.prefill).toBeCloseTo(timings.prefillMs, 6)
  })

  it.skipIf(!hasFfmpeg)('a video file: likewise, and a long one is told not to fit', async () => {
    const request = ask({ type: 'video', video: clip, minPixels: 3136, fps: 1 })
    const { usage, videos } = await model.generate(request)
    expect(await model.countTokens(request)).toMatchObject({
      promptTokens: usage.promptTokens,
      videos,
    })
    const large = ask({ type: 'video', video: clip, resizedHeight: 1400, resizedWidth: 1400 })
    const estimate = await model.estimate(large)
    expect(estimate).toMatchObject({ fits: false, maxTokens: 0 })
    const { suggestedMaxPixels } = estimate
    const smaller = ask({
      type: 'video',
      video: clip,
      maxPixels: suggestedMaxPixels!,
      minPixels: 1,
    })
    expect(await model.estimate(smaller)).toMatchObject({ fits: true })
    await expect(model.generate(large)).rejects.toMatchObject({ code: 'ERR_CONTEXT_LENGTH' })
  })

  it('weights and cache are those of this model', async () => {
    const estimate = await model.estimate(ask())
    expect(estimate.weightsBytes).toBe(model.info.weightBytes)
    const tokens = Math.ceil((estimate.promptTokens + 4) / 32) * 32
    expect(estimate.kvBytes).toBe(tokens * model.info.kvCache.bytesPerToken)
    const { config: tiny } = await openCheckpoint(folder)
    expect(estimate.prefillFlops).toBeGreaterThan(2 * tiny.hiddenSize * tiny.vocabSize)
  })

  it('a damaged picture is noticed by the run alone, another format by both', async () => {
    const text = ask({ type: 'image', image: Buffer.from('no picture') })
    await expect(model.countTokens(text)).rejects.toMatchObject({ code: 'ERR_IMAGE_DECODE' })
  })
})
