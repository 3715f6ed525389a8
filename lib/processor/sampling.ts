/**
 * Which frames of a video are used and how large they become: the rules of qwen-vl-utils, to the
 * number. Pure arithmetic; nothing here reads a video.
 */
import { InvalidArgumentError, VideoError } from '../errors.js'
import {
  DEFAULT_MAX_PIXELS,
  DEFAULT_MIN_PIXELS,
  roundHalfToEven,
  SIDE_MULTIPLE,
  smartResize,
  type Size,
} from './smart-resize.js'

/**
 * The published versions of the rules: `utils-0.0.8` belongs to Qwen2-VL, `utils-later` (0.0.10 and
 * up) to Qwen2.5-VL. They differ in the budget of a whole video and in a few roundings.
 */
export type VideoProfile = 'utils-0.0.8' | 'utils-later'

/** Frames are merged in pairs, so their number is even. */
const FRAME_FACTOR = 2
const DEFAULT_FPS = 2
const DEFAULT_MIN_FRAMES = 4
const DEFAULT_MAX_FRAMES = 768
/** Limits of one frame's area, in pixels. */
const FRAME_MIN_PIXELS = 128 * SIDE_MULTIPLE ** 2
const FRAME_MAX_PIXELS = 768 * SIDE_MULTIPLE ** 2
/** Pixels of all frames together, in pairs. */
const TOTAL_PIXELS: Record<VideoProfile, number> = {
  'utils-0.0.8': 24576 * SIDE_MULTIPLE ** 2,
  'utils-later': Math.floor(128000 * SIDE_MULTIPLE ** 2 * 0.9),
}

/** Which frames of a video are used. */
export interface SamplingOptions {
  /** Frames of a second of video. Default: 2. Not together with `nframes`. */
  fps?: number
  /** Frames in all, rounded to an even number. Not together with `fps`. */
  nframes?: number
  /** At least this many frames, rounded up to an even number. Default: 4. */
  minFrames?: number
  /** At most this many frames, rounded down to an even number. Default: 768, or all there are. */
  maxFrames?: number
  /** Frames before this second are left out. */
  videoStart?: number
  /** Frames after this second are left out. */
  videoEnd?: number
}

/** How large the frames become. */
export interface FrameSizeOptions {
  /** Smaller frames are enlarged to at least this area. Default: 100,352. */
  minPixels?: number
  /** Larger frames are shrunk to at most this area. Default: what `totalPixels` leaves a frame. */
  maxPixels?: number
  /** Budget of all frames together. Default: 19,267,584 (`utils-later`: 90,316,800). */
  totalPixels?: number
  /** Exact height before rounding to a multiple of 28; needs `resizedWidth` and replaces the limits. */
  resizedHeight?: number
  /** Exact width before rounding to a multiple of 28; needs `resizedHeight` and replaces the limits. */
  resizedWidth?: number
}

/** A range of frames, both ends included. */
export interface FrameRange {
  first: number
  last: number
}

/**
 * The frames between `videoStart` and `videoEnd`.
 *
 * @throws VideoError `ERR_VIDEO_RANGE` where fewer than two are left.
 */
export function frameRange(
  total: number,
  videoFps: number,
  { videoStart, videoEnd }: Pick<SamplingOptions, 'videoStart' | 'videoEnd'>,
): FrameRange {
  const all = { first: 0, last: total - 1 }
  if (videoStart === undefined && videoEnd === undefined) return all
  const first = Math.max(Math.ceil((videoStart ?? 0) * videoFps), 0)
  const last =
    videoEnd === undefined ? total - 1 : Math.min(Math.floor(videoEnd * videoFps), total - 1)
  if (first < last) return { first, last }
  throw new VideoError(
    'ERR_VIDEO_RANGE',
    `there are not two frames from videoStart, ${videoStart ?? 0} s, to videoEnd, ` +
      `${videoEnd === undefined ? 'the end' : `${videoEnd} s`}: the video has ${total} frames, ` +
      `${videoFps.toFixed(3)} a second. Widen the range.`,
    { details: { total, videoFps, videoStart, videoEnd } },
  )
}

/**
 * How many of `total` frames are used.
 *
 * @throws VideoError `ERR_VIDEO_TOO_SHORT` where the rule asks for fewer than two frames or more than
 *   there are.
 */
export function frameCount(
  total: number,
  videoFps: number,
  options: SamplingOptions,
  profile: VideoProfile = 'utils-0.0.8',
): number {
  const { nframes, minFrames = DEFAULT_MIN_FRAMES, maxFrames } = options
  if (nframes !== undefined && options.fps !== undefined) {
    throw new InvalidArgumentError('A video has both fps and nframes. Give one.', {
      path: 'nframes',
    })
  }
  let count: number
  if (nframes !== undefined) {
    count = roundHalfToEven(nframes / FRAME_FACTOR) * FRAME_FACTOR
  } else {
    const low = Math.ceil(minFrames / FRAME_FACTOR) * FRAME_FACTOR
    const high =
      Math.floor((maxFrames ?? Math.min(DEFAULT_MAX_FRAMES, total)) / FRAME_FACTOR) * FRAME_FACTOR
    // The reference's order of operations, which decides the last bit.
    const wanted = (total / videoFps) * (options.fps ?? DEFAULT_FPS)
    const bounded = Math.min(Math.max(wanted, low), high)
    count =
      profile === 'utils-0.0.8'
        ? roundHalfToEven(bounded / FRAME_FACTOR) * FRAME_FACTOR
        : Math.floor(Math.min(bounded, total) / FRAME_FACTOR) * FRAME_FACTOR
  }
  if (count >= FRAME_FACTOR && count <= total) return count
  throw new VideoError(
    'ERR_VIDEO_TOO_SHORT',
    `${count} frames would be taken of the ${total} there are; it must be at least 2 and at most ` +
      `all. ${total < FRAME_FACTOR ? 'Send a single picture as an image.' : 'Set nframes, or fps with minFrames and maxFrames, to suit.'}`,
    { details: { frames: count, total } },
  )
}

/**
 * The indices of `count` frames spread evenly over the range. The reference computes them in
 * float32, from both ends; a plain formula in double is off by one now and then.
 */
export function frameIndices({ first, last }: FrameRange, count: number): number[] {
  if (count === 1) return [first]
  const step = Math.fround((last - first) / (count - 1))
  const half = Math.floor(count / 2)
  return Array.from({ length: count }, (_, i) =>
    roundHalfToEven(
      i < half ? Math.fround(first + step * i) : Math.fround(last - step * (count - 1 - i)),
    ),
  )
}

/** The size to which the frames of a video are brought when `count` of them are used. */
export function frameSize(
  original: Size,
  count: number,
  options: FrameSizeOptions,
  profile: VideoProfile = 'utils-0.0.8',
): Size {
  const { resizedHeight, resizedWidth, minPixels = FRAME_MIN_PIXELS } = options
  if (resizedHeight !== undefined && resizedWidth !== undefined) {
    return smartResize(
      { width: resizedWidth, height: resizedHeight },
      { minPixels: DEFAULT_MIN_PIXELS, maxPixels: DEFAULT_MAX_PIXELS },
      'utils',
    )
  }
  const totalPixels = options.totalPixels ?? TOTAL_PIXELS[profile]
  const share = Math.max(
    Math.min(FRAME_MAX_PIXELS, (totalPixels / count) * FRAME_FACTOR),
    Math.floor(minPixels * 1.05),
  )
  const maxPixels =
    profile === 'utils-0.0.8'
      ? (options.maxPixels ?? share)
      : Math.min(options.maxPixels ?? Infinity, share)
  return smartResize(original, { minPixels, maxPixels }, 'utils')
}
