import { readFile } from 'node:fs/promises'
import { performance } from 'node:perf_hooks'
import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import { ImageError, InvalidArgumentError } from '../../../lib/errors.js'
import { planResizes, prepareImage } from '../../../lib/processor/image.js'
import { DEFAULT_MEDIA_OPTIONS } from '../../../lib/processor/media-options.js'
import type { ImageSource, RawPixels } from '../../../lib/processor/source.js'
import { failure, file, plain, published } from './pictures.js'

describe('planResizes', () => {
  const size = (width: number, height: number) => ({ width, height })

  it('skips steps that change nothing', () => {
    expect(planResizes(size(224, 224), {}, published)).toEqual([])
    expect(planResizes(size(640, 480), {}, published)).toEqual([size(644, 476)])
  })

  it("has a second step where the checkpoint's limits are tighter", () => {
    const tight = { minPixels: 3136, maxPixels: 50176 }
    expect(planResizes(size(640, 480), {}, tight)).toEqual([size(644, 476), size(252, 168)])
    expect(planResizes(size(644, 476), {}, tight)).toEqual([size(252, 168)])
  })

  it('takes the limits of the request in the first step', () => {
    expect(planResizes(size(640, 480), { maxPixels: 50176 }, published)).toEqual([size(252, 168)])
    expect(planResizes(size(100, 100), { minPixels: 200704 }, published)).toEqual([size(448, 448)])
  })

  it('takes a size asked for, in which limits of the request do not count', () => {
    const asked = { resizedHeight: 300, resizedWidth: 410, maxPixels: 3136 }
    expect(planResizes(size(640, 480), asked, published)).toEqual([size(420, 308)])
    expect(planResizes(size(640, 480), { resizedHeight: 300 }, published)).toEqual([size(644, 476)])
  })
})

describe('prepareImage', () => {
  it('gives sizes, grid, tokens and the pixels', async () => {
    const item = await prepareImage(plain(100, 60, [10, 20, 30]), {}, published, { index: 0 })
    expect(item).toMatchObject({
      kind: 'image',
      info: { width: 100, height: 60, resizedWidth: 112, resizedHeight: 56, tokens: 8 },
      gridThw: [1, 4, 8],
      tokens: 8,
      native: { isVideo: false },
    })
    expect(item.native.frames).toHaveLength(1)
    expect([...item.native.frames[0]!.toRgb().subarray(0, 3)]).toEqual([10, 20, 30])
  })

  it.each([
    [[77], [77, 77, 77]],
    [
      [77, 0],
      [77, 77, 77],
    ],
    [
      [1, 2, 3],
      [1, 2, 3],
    ],
    [
      [1, 2, 3, 255],
      [1, 2, 3],
    ],
    [
      [1, 2, 3, 0],
      [255, 255, 255],
    ],
    [
      [100, 0, 255, 128],
      [177, 127, 255],
    ],
  ])('reads raw pixels %j as %j', async (colour, rgb) => {
    const item = await prepareImage(plain(56, 56, colour), {}, published, { index: 0 })
    expect([...item.native.frames[0]!.toRgb().subarray(0, 3)]).toEqual(rgb)
  })

  it('reads raw pixels that are a part of a larger buffer', async () => {
    const { data } = plain(56, 56, [9, 8, 7])
    const larger = new Uint8Array(data.length + 5)
    larger.set(data, 5)
    const source: RawPixels = { data: larger.subarray(5), width: 56, height: 56, channels: 3 }
    const item = await prepareImage(source, {}, published, { index: 0 })
    expect(item.native.frames[0]!.toRgb()).toEqual(data)
  })

  it('gives equal pixels for a file, its bytes and its data: URL', async () => {
    const bytes = await readFile(file('alpha.png'))
    const sources: ImageSource[] = [
      file('alpha.png'),
      bytes,
      `data:image;base64,${bytes.toString('base64')}`,
    ]
    const items = await Promise.all(
      sources.map((source) => prepareImage(source, {}, published, { index: 0 })),
    )
    const [first, ...others] = items.map((item) => item.native.frames[0]!.toRgb())
    for (const other of others) expect(other).toEqual(first)
  })

  it.each([
    ['missing.png', 'ERR_IMAGE_NOT_FOUND'],
    [Buffer.from('no picture'), 'ERR_IMAGE_DECODE'],
    [plain(201, 1, [0]), 'ERR_ASPECT_RATIO'],
    [{ ...plain(2, 2, [0]), width: 3 }, 'ERR_IMAGE_PIXELS'],
  ])('says which image cannot be used (%#)', async (source, code) => {
    const error = await failure(prepareImage(source, {}, published, { index: 4 }))
    expect(error).toBeInstanceOf(ImageError)
    expect(error.code).toBe(code)
    expect(error.index).toBe(4)
    expect(error.message).toMatch(/^Image 5: /)
  })

  it.each([
    ['composite', [255, 255, 255]],
    ['drop', [0, 56, 255]],
  ] as const)('puts white behind raw RGBA or not: %s', async (alpha, expected) => {
    const media = { ...DEFAULT_MEDIA_OPTIONS, alpha }
    const source = plain(56, 56, [0, 56, 255, 0])
    const item = await prepareImage(source, {}, published, { index: 0, media })
    expect([...item.native.frames[0]!.toRgb().subarray(0, 3)]).toEqual(expected)
  })

  it('refuses pictures beyond the pixel limit, encoded or raw, and limits that lead there', async () => {
    const context = { index: 0, media: { ...DEFAULT_MEDIA_OPTIONS, maxImagePixels: 1000 } }
    for (const source of [file('rgb.png'), plain(101, 10, [0])]) {
      const error = await failure(prepareImage(source, {}, published, context))
      expect(error.code).toBe('ERR_IMAGE_TOO_LARGE')
      expect(error.details).toMatchObject({ index: 0, limit: 1000 })
    }
    const enlarged = prepareImage(file('rgb.png'), { minPixels: 1e12 }, published, { index: 0 })
    expect((await failure(enlarged)).code).toBe('ERR_IMAGE_TOO_LARGE')
  })

  it.each([0, -1, 1.5, NaN, Infinity, '3136'])('refuses a maxPixels of %s', async (value) => {
    const options = { maxPixels: value as number }
    const error = await failure(prepareImage(file('rgb.png'), options, published, { index: 0 }))
    expect(error).toBeInstanceOf(InvalidArgumentError)
    expect(error).toMatchObject({ path: 'maxPixels' })
  })

  it("rejects with the signal's reason before, and between stages", async () => {
    const reason = new Error('enough')
    const prepare = (signal: AbortSignal) =>
      prepareImage(file('rgb-large.png'), {}, published, { index: 0, signal })
    await expect(prepare(AbortSignal.abort(reason))).rejects.toBe(reason)
    const controller = new AbortController()
    const prepared = prepare(controller.signal)
    controller.abort(reason)
    await expect(prepared).rejects.toBe(reason)
  })

  it('leaves the event loop free while a large picture is prepared', async () => {
    const noise = await sharp({
      create: {
        width: 3000,
        height: 2000,
        channels: 3,
        background: '#808080',
        noise: { type: 'gaussian', mean: 128, sigma: 40 },
      },
    })
      .jpeg()
      .toBuffer()
    const before = performance.eventLoopUtilization()
    await prepareImage(noise, {}, published, { index: 0 })
    const { active, idle } = performance.eventLoopUtilization(before)
    expect(active / (active + idle)).toBeLessThan(0.25)
  })
})
