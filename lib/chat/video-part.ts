/** Content parts that are videos: what they may say, and which options go with which kind of source. */
import type { PixelOptions } from '../processor/image.js'
import {
  unusedOptions,
  type VideoFrame,
  type VideoOptions,
  type VideoSource,
} from '../processor/video.js'
import { isVideoFileSource } from '../processor/video-source.js'
import { invalid, isRecord, nameOf, refuseUnknownKeys, shown } from './checks.js'
import type { MediaPart } from './messages.js'
import {
  checkLimits,
  imageSource,
  pixelKeys,
  pixelOptions,
  type SnakeCasePixelOptions,
} from './pixel-options.js'

/** {@link VideoOptions} as the Python reference spells them. */
export interface SnakeCaseVideoOptions extends SnakeCasePixelOptions {
  min_frames?: number
  max_frames?: number
  total_pixels?: number
  video_start?: number
  video_end?: number
}

/**
 * One video: a file, of which frames are chosen; a list of frames, which are used as they are, none
 * left out; or frames that come one by one. Of a list, `fps` is accepted because the reference's own
 * examples carry it; it changes nothing for Qwen2-VL, whose positions do not depend on time.
 */
export interface VideoPart extends VideoOptions, SnakeCaseVideoOptions {
  type: 'video'
  video: VideoSource
}

/** Checks a video part and brings its options into one spelling. */
export function normalizeVideo(part: Record<string, unknown>, path: string): MediaPart {
  refuseUnknownKeys(part, videoKeys, path)
  const { video } = part
  const videoPath = `${path}.video`
  const options = videoOptions(part, path)
  if (Array.isArray(video)) {
    refuseUnused(part, 'list', path)
    if (video.length === 0) {
      throw invalid(videoPath, `${videoPath} has no frames. Give at least two.`)
    }
    const frames = video.map((frame, index) => frameSource(frame, `${videoPath}[${index}]`))
    return { kind: 'video', video: frames, options, path }
  }
  if (video === '')
    throw invalid(videoPath, `${videoPath} is an empty string. Give a path or a URL.`)
  if (isVideoFileSource(video)) return { kind: 'video', video, options, path }
  if (isAsyncIterable(video)) {
    refuseUnused(part, 'stream', path)
    return { kind: 'video', video: checkedFrames(video, videoPath), options, path }
  }
  throw invalid(
    videoPath,
    `${videoPath} must be a video file (a path, a URL, bytes, a Blob or a stream), a list of frames or an ` +
      `async iterable of frames, not ${nameOf(video)}.`,
  )
}

/** Frames can only be checked as they come. */
async function* checkedFrames(
  frames: AsyncIterable<unknown>,
  path: string,
): AsyncGenerator<VideoFrame, void, undefined> {
  let index = 0
  for await (const frame of frames) yield frameSource(frame, `${path}[${index++}]`)
}

function frameSource(frame: unknown, path: string): VideoFrame {
  if (!isRecord(frame) || !('image' in frame)) return imageSource(frame, path)
  refuseUnknownKeys(frame, ['image', 'timestamp'], path)
  const image = imageSource(frame['image'], `${path}.image`)
  const { timestamp } = frame
  if (timestamp === undefined) return { image }
  if (typeof timestamp === 'number' && Number.isFinite(timestamp)) return { image, timestamp }
  throw invalid(
    `${path}.timestamp`,
    `${path}.timestamp must be a number of seconds, not ${shown(timestamp)}.`,
  )
}

function isAsyncIterable(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === 'object' && value !== null && Symbol.asyncIterator in value
}

function videoOptions(part: Record<string, unknown>, path: string): VideoOptions {
  const pixels: PixelOptions = pixelOptions(part, path)
  checkLimits(pixels, path)
  const options: VideoOptions = { ...pixels }
  for (const [name, snakeName, rule] of samplingOptions) {
    const given = [...new Set([name, snakeName])].filter((key) => part[key] !== undefined)
    const [key, second] = given
    if (key === undefined) continue
    if (second !== undefined) {
      throw invalid(`${path}.${second}`, `${path} has both ${key} and ${second}. Give one.`)
    }
    const value = part[key]
    if (!rules[rule].holds(value)) {
      throw invalid(
        `${path}.${key}`,
        `${path}.${key} must be ${rules[rule].words}, not ${shown(value)}.`,
      )
    }
    options[name] = value
  }
  checkSampling(options, path)
  return options
}

function checkSampling(options: VideoOptions, path: string): void {
  const { fps, nframes, minFrames, maxFrames, videoStart, videoEnd } = options
  if (fps !== undefined && nframes !== undefined) {
    throw invalid(`${path}.nframes`, `${path} has both fps and nframes. Give one.`)
  }
  for (const [name, value] of Object.entries({ minFrames, maxFrames })) {
    if (nframes === undefined || value === undefined) continue
    throw invalid(
      `${path}.${name}`,
      `${path}.${name} bounds what fps gives, and has no effect beside nframes. Give one.`,
    )
  }
  if (minFrames !== undefined && maxFrames !== undefined && minFrames > maxFrames) {
    throw invalid(
      `${path}.minFrames`,
      `${path}.minFrames is ${minFrames}, which is more than maxFrames, ${maxFrames}.`,
    )
  }
  if (videoStart !== undefined && videoEnd !== undefined && videoStart >= videoEnd) {
    throw invalid(
      `${path}.videoStart`,
      `${path}.videoStart is ${videoStart} s, which is not before videoEnd, ${videoEnd} s.`,
    )
  }
}

/** An option that would be ignored, named as the caller wrote it. */
function refuseUnused(
  part: Record<string, unknown>,
  kind: keyof typeof unusedOptions,
  path: string,
): void {
  const names: readonly string[] = unusedOptions[kind].names
  for (const [name, snakeName] of samplingOptions) {
    if (!names.includes(name)) continue
    const key = [name, snakeName].find((spelling) => part[spelling] !== undefined)
    if (key === undefined) continue
    throw invalid(
      `${path}.${key}`,
      `${path}.${key} has no effect here: ${unusedOptions[kind].reason}`,
    )
  }
}

/** What a number must be. */
const rules = {
  rate: {
    words: 'a number above 0',
    holds: (value: unknown): value is number => isNumber(value) && value > 0,
  },
  count: {
    words: 'a whole number of frames from 2 up',
    holds: (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 2,
  },
  pixels: {
    words: 'a whole number of pixels from 1 up',
    holds: (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 1,
  },
  seconds: {
    words: 'a number of seconds from 0 up',
    holds: (value: unknown): value is number => isNumber(value) && value >= 0,
  },
}

function isNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value)
}

const samplingOptions = [
  ['fps', 'fps', 'rate'],
  ['nframes', 'nframes', 'count'],
  ['minFrames', 'min_frames', 'count'],
  ['maxFrames', 'max_frames', 'count'],
  ['totalPixels', 'total_pixels', 'pixels'],
  ['videoStart', 'video_start', 'seconds'],
  ['videoEnd', 'video_end', 'seconds'],
] as const

/** All spellings of the options that choose frames: what an image may not say. */
export const samplingKeys = [...new Set(samplingOptions.flatMap(([name, snake]) => [name, snake]))]
const videoKeys: readonly string[] = ['type', 'video', ...samplingKeys, ...pixelKeys]
