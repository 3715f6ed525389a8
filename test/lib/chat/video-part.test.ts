// What a video part may say: every kind of source, every option in both spellings, and what is refused.
import { Readable } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { normalizeMessages } from '../../../lib/chat/messages.js'
import type { InvalidArgumentError } from '../../../lib/errors.js'

const mediaOf = (part: unknown) => {
  const [media] = normalizeMessages([{ role: 'user', content: [part] }]).media
  if (media?.kind !== 'video') throw new Error('no video')
  return media
}

function fault(part: object): InvalidArgumentError {
  try {
    mediaOf(part)
  } catch (error) {
    return error as InvalidArgumentError
  }
  return expect.fail('it was accepted')
}

const here = 'messages[0].content[0]'
const clip = { type: 'video', video: 'clip.mp4' }
const frames = { type: 'video', video: ['0.png', '1.png'] }
const stream = () => ({ type: 'video', video: frameStream() })

// eslint-disable-next-line @typescript-eslint/require-await
async function* frameStream(...given: unknown[]) {
  yield* given
}

describe('sources', () => {
  it.each<[string, unknown]>([
    ['a path', 'clip.mp4'],
    ['a URL', new URL('file:///clip.mp4')],
    ['bytes', Buffer.from('x')],
    ['an ArrayBuffer', new ArrayBuffer(3)],
    ['a Blob', new Blob(['x'])],
    ['a stream of bytes', Readable.from([Buffer.from('x')], { objectMode: false })],
    ['a web stream', new ReadableStream()],
  ])('%s is a file', (_, video) => {
    expect(mediaOf({ type: 'video', video }).video).toBe(video)
  })

  it('a video_url is a file, with options inside', () => {
    const part = { type: 'video_url', video_url: { url: 'https://example.com/a.mp4', fps: 1 } }
    expect(mediaOf(part)).toMatchObject({
      video: 'https://example.com/a.mp4',
      options: { fps: 1 },
    })
  })

  it('frames may carry times, and mix with plain ones', () => {
    const video = ['0.png', { image: '1.png', timestamp: 1.5 }, { image: Buffer.from('x') }]
    expect(mediaOf({ type: 'video', video }).video).toEqual(video)
  })

  it('an async iterable is checked as it comes', async () => {
    const { video } = mediaOf({ type: 'video', video: frameStream('0.png', { image: 5 }) })
    const iterator = (video as AsyncIterable<unknown>)[Symbol.asyncIterator]()
    expect(await iterator.next()).toEqual({ done: false, value: '0.png' })
    await expect(iterator.next()).rejects.toMatchObject({ path: `${here}.video[1].image` })
  })
})

describe('options', () => {
  const camel = {
    minFrames: 6,
    maxFrames: 20,
    minPixels: 3136,
    maxPixels: 100352,
    totalPixels: 1e6,
    videoStart: 0.5,
    videoEnd: 9,
    fps: 0.5,
  }
  const snake = {
    min_frames: 6,
    max_frames: 20,
    min_pixels: 3136,
    max_pixels: 100352,
    total_pixels: 1e6,
    video_start: 0.5,
    video_end: 9,
    fps: 0.5,
  }

  it('both spellings mean the same', () => {
    expect(mediaOf({ ...clip, ...camel }).options).toEqual(camel)
    expect(mediaOf({ ...clip, ...snake }).options).toEqual(camel)
    expect(
      mediaOf({ ...clip, nframes: 7, resized_height: 280, resizedWidth: 420 }).options,
    ).toEqual({ nframes: 7, resizedHeight: 280, resizedWidth: 420 })
  })

  it.each<[object, string, RegExp]>([
    [{ ...clip, fps: 1, nframes: 4 }, '.nframes', /has both fps and nframes/],
    [{ ...clip, nframes: 4, maxFrames: 8 }, '.maxFrames', /no effect beside nframes/],
    [{ ...clip, maxFrames: 4, max_frames: 4 }, '.max_frames', /both maxFrames and max_frames/],
    [{ ...clip, minFrames: 8, maxFrames: 4 }, '.minFrames', /more than maxFrames, 4/],
    [{ ...clip, minPixels: 9, maxPixels: 8 }, '.minPixels', /more than maxPixels, 8/],
    [{ ...clip, videoStart: 4, videoEnd: 4 }, '.videoStart', /not before videoEnd, 4 s/],
    [{ ...clip, fps: 0 }, '.fps', /a number above 0, not 0/],
    [{ ...clip, fps: '2' }, '.fps', /a number above 0, not a string/],
    [{ ...clip, nframes: 1 }, '.nframes', /whole number of frames from 2 up, not 1/],
    [{ ...clip, min_frames: 2.5 }, '.min_frames', /whole number of frames/],
    [{ ...clip, total_pixels: -1 }, '.total_pixels', /whole number of pixels/],
    [{ ...clip, videoStart: -1 }, '.videoStart', /seconds from 0 up, not -1/],
    [{ ...clip, resizedHeight: 28 }, '.resizedWidth', /go together/],
    [{ ...clip, max_frame: 4 }, '.max_frame', /Did you mean 'maxFrames'\?/],
    [{ ...frames, nframes: 4 }, '.nframes', /a list of frames is used as it is/],
    [{ ...frames, max_frames: 4 }, '.max_frames', /a list of frames is used as it is/],
    [{ ...frames, totalPixels: 4 }, '.totalPixels', /a list of frames is used as it is/],
    [{ ...frames, video_start: 4 }, '.video_start', /a list of frames is used as it is/],
    [{ ...stream(), minFrames: 4 }, '.minFrames', /not known how many there will be/],
    [{ ...stream(), totalPixels: 4 }, '.totalPixels', /not known how many there will be/],
    [{ type: 'video', video: '' }, '.video', /empty string/],
    [{ type: 'video', video: 5 }, '.video', /must be a video file/],
    [{ type: 'video', video: [{ image: 'a', time: 1 }] }, '.video[0].time', /not known/],
    [
      { type: 'video', video: [{ image: 'a', timestamp: 'x' }] },
      '.video[0].timestamp',
      /a number of seconds, not a string/,
    ],
  ])('%o is refused', (part, path, message) => {
    const error = fault(part)
    expect(error.code).toBe('ERR_INVALID_ARGUMENT')
    expect(error.path).toBe(here + path)
    expect(error.message).toMatch(message)
  })

  it('a list may say its rate, as the reference has it', () => {
    expect(mediaOf({ ...frames, fps: 1, max_pixels: 50176 }).options).toEqual({
      fps: 1,
      maxPixels: 50176,
    })
  })
})
