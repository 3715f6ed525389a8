// Videos that are given as pictures: lists of frames, and frames that come one by one.
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { parsePreprocessorConfig } from '../../../lib/checkpoint/preprocessor-config.js'
import { ImageError, VideoError } from '../../../lib/errors.js'
import { nativeBinding } from '../../../lib/native.js'
import { prepareImage } from '../../../lib/processor/image.js'
import type { RawPixels } from '../../../lib/processor/source.js'
import { prepareVideo } from '../../../lib/processor/video.js'

const published = parsePreprocessorConfig({ max_pixels: 12845056 }, 'preprocessor_config.json')
const file = (name: string) =>
  fileURLToPath(new URL(`../../golden/images/files/${name}`, import.meta.url))

/** One colour, `width` x `height`. */
function plain(width: number, height: number, colour: number[]): RawPixels {
  const data = Uint8Array.from({ length: width * height * colour.length }, (_, i) => {
    return colour[i % colour.length]!
  })
  return { data, width, height, channels: colour.length as RawPixels['channels'] }
}

async function failure(prepared: Promise<unknown>): Promise<ImageError> {
  return prepared.then(
    () => expect.fail('it was accepted'),
    (error: unknown) => error as ImageError,
  )
}

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
