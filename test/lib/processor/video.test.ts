// Videos that are given as pictures: lists of frames, and frames that come one by one.
import { describe, expect, it } from 'vitest'
import { ImageError, InvalidArgumentError, VideoError } from '../../../lib/errors.js'
import { nativeBinding } from '../../../lib/native.js'
import { prepareImage } from '../../../lib/processor/image.js'
import { measureVideo, prepareVideo, type VideoFrame } from '../../../lib/processor/video.js'
import { failure, file, plain, published } from './pictures.js'

describe('a list of frames', () => {
  const frame = (level: number, width = 64, height = 48) => plain(width, height, [level, 0, 0])

  it('keeps the frames in order and leaves none out', async () => {
    const frames = Array.from({ length: 9 }, (_, i) => frame(i))
    const item = await prepareVideo(frames, {}, published, { index: 0 })
    expect(item).toMatchObject({
      kind: 'video',
      info: { width: 64, height: 48, resizedWidth: 56, resizedHeight: 56, tokens: 20 },
      gridThw: [5, 4, 4],
      tokens: 20,
      native: { isVideo: true },
    })
    expect(item.native.frames.map((image) => image.toRgb()[0])).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8])
  })

  it('treats every frame as an image: same pixels, limits per frame', async () => {
    const options = { maxPixels: 12544 }
    const names = ['rgb-large.png', 'rgb-large.png', 'rgb-large.png']
    const video = await prepareVideo(names.map(file), options, published, { index: 0 })
    const image = await prepareImage(file('rgb-large.png'), options, published, { index: 0 })
    expect(video.native.frames[2]!.toRgb()).toEqual(image.native.frames[0]!.toRgb())
    expect(video.gridThw).toEqual([2, image.gridThw[1], image.gridThw[2]])
  })

  it('pads an odd count by repeating the last frame', async () => {
    const { imageMean, imageStd, rescaleFactor } = published
    const patches = async (levels: number[]) => {
      const frames = levels.map((level) => frame(level))
      const { native } = await prepareVideo(frames, {}, published, { index: 0 })
      return nativeBinding().extractPatches(native, imageMean, imageStd, rescaleFactor)
    }
    expect(await patches([1, 2, 3])).toEqual(await patches([1, 2, 3, 3]))
  })

  it.each([
    [[], /has no frames; at least two are needed\.$/],
    [[frame(1)], /has one frame; at least two are needed\. Send a single picture as an image/],
  ])('refuses fewer than two frames (%#)', async (frames, message) => {
    const error = await failure(prepareVideo(frames, {}, published, { index: 2 }))
    expect(error).toBeInstanceOf(VideoError)
    expect(error.code).toBe('ERR_VIDEO_TOO_SHORT')
    expect(error.details).toEqual({ index: 2, frames: frames.length })
    expect(error.message).toMatch(message)
  })

  it('refuses frames that come out in different sizes, but not ones that only start so', async () => {
    const error = await failure(
      prepareVideo([frame(1), frame(2), frame(3, 300, 48)], {}, published, { index: 1 }),
    )
    expect(error).toBeInstanceOf(VideoError)
    expect(error.code).toBe('ERR_VIDEO_FRAME_SIZE')
    expect(error.details).toMatchObject({ index: 1, frame: 2 })
    const asked = { resizedHeight: 56, resizedWidth: 84 }
    const frames = [frame(1), frame(3, 300, 48)]
    const item = await prepareVideo(frames, asked, published, { index: 1 })
    expect(item.gridThw).toEqual([1, 4, 6])
  })

  it('says which frame of which video cannot be used', async () => {
    const frames = [frame(1), frame(2), Buffer.from('no picture'), frame(4)]
    const error = await failure(prepareVideo(frames, {}, published, { index: 1 }))
    expect(error).toBeInstanceOf(ImageError)
    expect(error.details).toMatchObject({ index: 1, frame: 2 })
    expect(error.message).toMatch(/^Video 2, frame 3: /)
  })

  it("rejects with the signal's reason", async () => {
    const reason = new Error('enough')
    const controller = new AbortController()
    const frames = Array.from({ length: 40 }, () => file('rgb-large.png'))
    const prepared = prepareVideo(frames, {}, published, { index: 0, signal: controller.signal })
    setImmediate(() => controller.abort(reason))
    await expect(prepared).rejects.toBe(reason)
  })
})

describe('frames that come one by one', () => {
  const frame = (level: number) => plain(64, 48, [level, 0, 0])
  let asked = 0
  // eslint-disable-next-line @typescript-eslint/require-await
  async function* film(count: number, rate?: number) {
    asked = 0
    for (let i = 0; i < count; ++i) {
      asked += 1
      yield rate === undefined ? frame(i) : { image: frame(i), timestamp: i / rate }
    }
  }
  const levels = async (source: AsyncIterable<VideoFrame>, options = {}) => {
    const item = await prepareVideo(source, options, published, { index: 0 })
    return item.native.frames.map((image) => image.toRgb()[0])
  }

  it('all are used where nothing else is said', async () => {
    expect(await levels(film(5))).toEqual([0, 1, 2, 3, 4])
    const item = await prepareVideo(film(4, 8), {}, published, { index: 0 })
    expect(item).toMatchObject({ kind: 'video', gridThw: [2, 4, 4], tokens: 8 })
    expect(item.info).toMatchObject({ frames: 4, sampledFps: 8, width: 64, height: 48 })
  })

  it('fps takes the first frame at or after each tick', async () => {
    expect(await levels(film(20, 10), { fps: 2 })).toEqual([0, 5, 10, 15])
    expect(await levels(film(10, 10), { fps: 3 })).toEqual([0, 4, 7])
    expect(await levels(film(6, 10), { fps: 50 })).toEqual([0, 1, 2, 3, 4, 5])
    expect(await levels(film(60, 30), { fps: 10 })).toEqual(
      Array.from({ length: 20 }, (_, i) => 3 * i),
    )
  })

  it('a range ends the reading', async () => {
    const options = { videoStart: 0.5, videoEnd: 0.8 }
    expect(await levels(film(1000, 10), options)).toEqual([5, 6, 7, 8])
    expect(asked).toBe(10)
  })

  it('nframes and maxFrames thin out, and hold few frames on the way', async () => {
    expect(await levels(film(8), { nframes: 4 })).toEqual([0, 2, 4, 6])
    expect(await levels(film(5), { nframes: 4 })).toEqual([0, 1, 3, 4])
    expect(await levels(film(100), { maxFrames: 4 })).toEqual([0, 32, 64, 96])
    expect(await levels(film(3), { maxFrames: 4 })).toEqual([0, 1, 2])
    expect(await levels(film(200, 10), { fps: 5, maxFrames: 4 })).toEqual([0, 64, 128, 192])
  })

  it('an option that needs times is an error without them', async () => {
    const error = await failure(levels(film(4), { fps: 1 }))
    expect(error).toBeInstanceOf(InvalidArgumentError)
    expect(error.message).toMatch(/^Video 1, frame 1 has no timestamp/)
    expect(error.details).toEqual({ index: 0, frame: 0 })
  })

  it('too few for nframes, or for a video, is an error', async () => {
    const few = await failure(levels(film(3), { nframes: 4 }))
    expect(few.code).toBe('ERR_VIDEO_TOO_SHORT')
    expect(few.message).toBe('Video 1 has 3 frames; nframes asks for 4.')
    expect((await failure(levels(film(1)))).message).toMatch(/has one frame/)
    expect((await failure(levels(film(0)))).message).toMatch(/has no frames/)
  })

  it('options without effect are refused', async () => {
    for (const options of [{ minFrames: 4 }, { totalPixels: 1e6 }]) {
      const error = await failure(levels(film(8), options))
      expect(error).toBeInstanceOf(InvalidArgumentError)
      expect(error.message).toMatch(/has no effect here/)
    }
    const list = prepareVideo([frame(0), frame(1)], { nframes: 2 }, published, { index: 0 })
    expect((await failure(list)).message).toMatch(/^nframes has no effect here: a list/)
  })

  it("an abort ends the reading with the signal's reason", async () => {
    const controller = new AbortController()
    const reason = new Error('enough')
    let ended = false
    // eslint-disable-next-line @typescript-eslint/require-await
    async function* endless() {
      try {
        for (let i = 0; ; ++i) {
          if (i === 20) controller.abort(reason)
          yield frame(i)
        }
      } finally {
        ended = true
      }
    }
    const context = { index: 0, signal: controller.signal }
    const prepared = prepareVideo(endless(), { maxFrames: 4 }, published, context)
    expect(await failure(prepared)).toBe(reason)
    expect(ended).toBe(true)
  })
})

describe('a camera that gives no more frames', () => {
  it('is let go when the signal aborts', async () => {
    const closed: string[] = []
    const camera: AsyncIterable<VideoFrame> = {
      [Symbol.asyncIterator]: () => ({
        next: () => new Promise<never>(() => {}),
        return: () => {
          closed.push('closed')
          return Promise.resolve({ done: true, value: undefined })
        },
      }),
    }
    const context = { index: 0, signal: AbortSignal.timeout(20) }
    const error = await failure(prepareVideo(camera, {}, published, context))
    expect(error.name).toBe('TimeoutError')
    expect(closed).toEqual(['closed'])
  })
})

describe('measureVideo()', () => {
  it('a list: from the headers, with the same faults as preparing', async () => {
    const frames = [file('rgb-large.png'), file('rgb-large.png'), file('rgb-large.png')]
    const options = { maxPixels: 12544, fps: 4 }
    const measured = await measureVideo(frames, options, published, { index: 0 })
    expect(await prepareVideo(frames, options, published, { index: 0 })).toMatchObject(measured)
    expect(measured.info).toMatchObject({ frames: 3, sampledFps: 4 })
    const uneven = [plain(64, 48, [0]), plain(300, 48, [0])]
    for (const work of [measureVideo, prepareVideo]) {
      const error = await failure(work(uneven, {}, published, { index: 0 }))
      expect(error.code).toBe('ERR_VIDEO_FRAME_SIZE')
    }
  })
})
