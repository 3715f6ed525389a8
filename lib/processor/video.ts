/** From a video in any accepted form to an item for the vision tower. */
import type { PreprocessorConfig } from '../checkpoint/checkpoint.js'
import {
  FetchError,
  fromNativeError,
  InvalidArgumentError,
  Qwen2VLError,
  VideoError,
} from '../errors.js'
import { nativeBinding, type NativeImage } from '../native.js'
import { findFfmpeg, type FfmpegTools, type RunOptions } from './ffmpeg.js'
import { FrameCollector, TimeGrid, untilAborted } from './frame-collector.js'
import {
  checkPixelOptions,
  mapConcurrently,
  measureFrame,
  prepareFrame,
  type ImageInfo,
  type MeasuredItem,
  type MeasuredVideo,
  type Place,
  type PrepareContext,
  type PreparedFrame,
  type PreparedItem,
} from './image.js'
import { DEFAULT_MEDIA_OPTIONS, type MediaOptions } from './media-options.js'
import {
  frameCount,
  frameIndices,
  frameRange,
  frameSize,
  type FrameSizeOptions,
  type SamplingOptions,
} from './sampling.js'
import { SIDE_MULTIPLE, smartResize, type Size } from './smart-resize.js'
import type { ImageSource } from './source.js'
import { countFrames, decodeFrames, probeVideo, type VideoFacts } from './video-file.js'
import { isVideoFileSource, withVideoFile, type VideoFileSource } from './video-source.js'

/** What can be said about one video. Which options apply depends on where its frames come from. */
export interface VideoOptions extends SamplingOptions, FrameSizeOptions {}

/** A frame that comes by itself: a picture, or one with the time at which it is seen, in seconds. */
export type VideoFrame = ImageSource | { image: ImageSource; timestamp?: number }

/**
 * A video: a file; the list of its frames, all of which are used; or frames that come one by one,
 * which are resized as they come.
 */
export type VideoSource = VideoFileSource | readonly VideoFrame[] | AsyncIterable<VideoFrame>

/** The size a video came in, the frames and the size that the model sees, and what that costs. */
export interface VideoInfo extends ImageInfo {
  /** Frames that are used. Of an odd number the last is used twice. */
  frames: number
  /** Frames used of a second of video; of a list of frames what was said of it, or 2. */
  sampledFps: number
}

/** Fewer make no video. */
const MIN_FRAMES = 2
/** Of frames that come one by one and are thinned out. */
const MAX_STREAMED_FRAMES = 768
/** What a list of frames is taken for, as the reference does. It has no effect on Qwen2-VL. */
const LIST_FPS = 2

/**
 * Prepares a video. The frames of a file are chosen and sized by the rules of `sampling.ts`; those
 * of a list are treated as images, none left out; those that come one by one are images as well, and
 * chosen by their times where `fps` is given.
 *
 * @throws VideoError, ImageError (with `details.frame`) or FetchError, all with the `index` of the video
 *   among the request's media in `details`.
 */
export async function prepareVideo(
  source: VideoSource,
  options: VideoOptions,
  preprocessor: PreprocessorConfig,
  context: PrepareContext,
): Promise<PreparedItem> {
  checkPixelOptions(options)
  const { inPlace = atOnce } = context
  if (isList(source)) {
    return inPlace(() => prepareList(source, options, preprocessor, context))
  }
  if (!isVideoFileSource(source)) return prepareStream(source, options, preprocessor, context)
  const { signal } = context
  return withFile(source, context, async (path, tools, media) => {
    const run = { signal, timeoutMs: media.videoTimeoutMs }
    const facts = await probeVideo(path, tools, run)
    let plan = planVideo(facts, options, preprocessor, media)
    let images = await takeFrames(path, plan, tools, run)
    if (images.length < plan.indices.length) {
      // Undamaged, and yet shorter than its container says: choose among the frames there are.
      const frames = await countFrames(path, tools, run)
      plan = planVideo({ ...facts, frames }, options, preprocessor, media)
      images = await takeFrames(path, plan, tools, run)
    }
    return toItem(plan, images)
  })
}

/**
 * Size, frames and tokens of a video without decoding it. Frames that come one by one are used up by
 * it, since nothing else can tell how many there are.
 */
export async function measureVideo(
  source: VideoSource,
  options: VideoOptions,
  preprocessor: PreprocessorConfig,
  context: PrepareContext,
): Promise<MeasuredItem> {
  checkPixelOptions(options)
  if (isList(source)) {
    refuseUnused(options, 'list')
    const sizes = await mapConcurrently(source, async (frame, position) => {
      const place = frameOf(context.index, position)
      return measureFrame(imageOf(frame), options, preprocessor, context, place)
    })
    checkFrames(
      sizes.map(({ resized }) => resized),
      context.index,
    )
    const [first] = sizes
    const resized = first?.resized ?? { width: 0, height: 0 }
    return describe(first?.original ?? resized, resized, sizes.length, options.fps ?? LIST_FPS)
  }
  if (!isVideoFileSource(source)) return prepareStream(source, options, preprocessor, context)
  return withFile(source, context, async (path, tools, media) => {
    const run = { signal: context.signal, timeoutMs: media.videoTimeoutMs }
    const facts = await probeVideo(path, tools, run)
    const { kind, info, gridThw, tokens } = planVideo(facts, options, preprocessor, media)
    return { kind, info, gridThw, tokens }
  })
}

/** What will be taken out of a file. */
interface VideoPlan extends MeasuredVideo {
  indices: number[]
  /** The sizes a frame goes through. */
  sizes: { width: number; height: number; filter: 'pillow' | 'torchvision' }[]
}

function planVideo(
  facts: VideoFacts,
  options: VideoOptions,
  preprocessor: PreprocessorConfig,
  { videoProfile, maxImagePixels }: MediaOptions,
): VideoPlan {
  const range = frameRange(facts.frames, facts.fps, options)
  const total = range.last - range.first + 1
  const count = frameCount(total, facts.fps, options, videoProfile)
  const original = { width: facts.width, height: facts.height }
  const requested = frameSize(original, count, options, videoProfile)
  const final = smartResize(requested, preprocessor, 'processor')
  for (const { width, height } of [original, requested, final]) {
    if (width * height <= maxImagePixels) continue
    throw new VideoError(
      'ERR_VIDEO_TOO_LARGE',
      `${width} x ${height} pixels a frame are more than the ${maxImagePixels.toLocaleString('en')} ` +
        'that are accepted. Send a smaller video, lower minPixels or raise maxImagePixels.',
      { details: { width, height, limit: maxImagePixels } },
    )
  }
  const sizes = [
    { ...requested, filter: 'torchvision' as const },
    { ...final, filter: 'pillow' as const },
  ]
  return {
    ...describe(original, final, count, (count / total) * facts.fps),
    indices: frameIndices(range, count),
    sizes,
  }
}

async function takeFrames(
  path: string,
  plan: VideoPlan,
  tools: FfmpegTools,
  run: RunOptions,
): Promise<NativeImage[]> {
  const images: NativeImage[] = []
  // One frame is resized while ffmpeg decodes the next; there are never more in full size.
  let resizing: Promise<NativeImage> | undefined
  try {
    for await (const { data, width, height } of decodeFrames(path, plan.indices, tools, run)) {
      if (resizing !== undefined) images.push(await resizing)
      const pixels = { data, width, height, channels: 3 as const, cmyk: false }
      resizing = nativeBinding().prepareImage(pixels, 'drop', plan.sizes)
      resizing.catch(() => {}) // whoever awaits it hears of it
    }
    if (resizing !== undefined) images.push(await resizing)
    run.signal?.throwIfAborted()
    return images
  } catch (error) {
    run.signal?.throwIfAborted()
    throw fromNativeError(error)
  }
}

/** All frames of a list, as images. */
async function prepareList(
  list: readonly VideoFrame[],
  options: VideoOptions,
  preprocessor: PreprocessorConfig,
  context: PrepareContext,
): Promise<PreparedItem> {
  refuseUnused(options, 'list')
  const frames = await mapConcurrently(list, (frame, position) =>
    prepareFrame(imageOf(frame), options, preprocessor, context, frameOf(context.index, position)),
  )
  return fromFrames(frames, options.fps ?? LIST_FPS, context.index)
}

/** A frame of a stream and when it is seen. */
interface TimedFrame {
  frame: PreparedFrame
  time: number | undefined
}

/** Frames that come one by one: chosen by time, resized at once, thinned out to the number wanted. */
async function prepareStream(
  source: AsyncIterable<VideoFrame>,
  options: VideoOptions,
  preprocessor: PreprocessorConfig,
  context: PrepareContext,
): Promise<PreparedItem> {
  refuseUnused(options, 'stream')
  const { index, signal } = context
  const { fps, nframes, maxFrames } = options
  const limit = nframes ?? maxFrames ?? (fps === undefined ? Infinity : MAX_STREAMED_FRAMES)
  const even = limit === Infinity ? limit : Math.max(MIN_FRAMES, Math.round(limit / 2) * 2)
  const collector = new FrameCollector<TimedFrame>(even)
  const isChosen = timeRule(options, index)
  let position = -1
  for await (const frame of untilAborted(source, signal)) {
    position += 1
    const time = timeOf(frame)
    const choice = isChosen(time, position)
    if (choice === 'end') break
    if (choice === 'skip' || !collector.wantsNext()) continue
    const place = frameOf(index, position)
    const prepared = await prepareFrame(imageOf(frame), options, preprocessor, context, place)
    collector.add({ frame: prepared, time })
  }
  signal?.throwIfAborted()
  const chosen = collector.take()
  if (nframes !== undefined && chosen.length < even) {
    throw tooShort(index, chosen.length, `nframes asks for ${even}`)
  }
  return fromFrames(
    chosen.map(({ frame }) => frame),
    rateOf(chosen) ?? fps ?? LIST_FPS,
    index,
  )
}

/** Whether a frame is used, by its time. */
function timeRule(
  { fps, videoStart = -Infinity, videoEnd = Infinity }: VideoOptions,
  index: number,
): (time: number | undefined, position: number) => 'take' | 'skip' | 'end' {
  const grid = fps === undefined ? undefined : new TimeGrid(fps)
  const needsTime = grid !== undefined || videoStart !== -Infinity || videoEnd !== Infinity
  return (time, position) => {
    if (time === undefined) {
      if (!needsTime) return 'take'
      throw new InvalidArgumentError(
        `Video ${index + 1}, frame ${position + 1} has no timestamp, and fps, videoStart and videoEnd ` +
          'need one. Give frames as { image, timestamp } with seconds, or leave these options out.',
        { details: { index, frame: position } },
      )
    }
    if (time < videoStart) return 'skip'
    if (time > videoEnd) return 'end'
    return grid === undefined || grid.accepts(time) ? 'take' : 'skip'
  }
}

/** Frames a second, by the times of the first and the last. */
function rateOf(frames: readonly TimedFrame[]): number | undefined {
  const first = frames[0]?.time
  const last = frames.at(-1)?.time
  if (first === undefined || last === undefined || last <= first) return undefined
  return (frames.length - 1) / (last - first)
}

function fromFrames(frames: readonly PreparedFrame[], fps: number, index: number): PreparedItem {
  checkFrames(
    frames.map(({ image }) => image),
    index,
  )
  const [first] = frames
  const { original, image } = first ?? { original: noSize, image: noSize }
  return toItem(
    describe(original, image, frames.length, fps),
    frames.map((frame) => frame.image),
  )
}

/** What is said of a video whose frames come out in one size. */
function describe(
  original: Size,
  resized: Size,
  frames: number,
  sampledFps: number,
): MeasuredVideo {
  const patch = SIDE_MULTIPLE / 2
  const gridThw: [number, number, number] = [
    Math.ceil(frames / 2),
    resized.height / patch,
    resized.width / patch,
  ]
  const tokens = (gridThw[0] * gridThw[1] * gridThw[2]) / 4
  const info: VideoInfo = {
    width: original.width,
    height: original.height,
    resizedWidth: resized.width,
    resizedHeight: resized.height,
    tokens,
    frames,
    sampledFps,
  }
  return { kind: 'video', info, gridThw, tokens }
}

function toItem(
  { kind, info, gridThw, tokens }: MeasuredVideo,
  images: NativeImage[],
): PreparedItem {
  return { kind, info, gridThw, tokens, native: { frames: images, isVideo: true } }
}

const atOnce = <T>(work: () => Promise<T>): Promise<T> => work()

/** Finds ffmpeg, brings the source into a file, and says of errors which video they are about. */
async function withFile<T>(
  source: VideoFileSource,
  { index, signal, media = DEFAULT_MEDIA_OPTIONS, inPlace = atOnce }: PrepareContext,
  use: (path: string, tools: FfmpegTools, media: MediaOptions) => Promise<T>,
): Promise<T> {
  try {
    signal?.throwIfAborted()
    const tools = await findFfmpeg(media.ffmpegPath)
    return await withVideoFile(source, media, signal, (path) =>
      inPlace(async () => {
        signal?.throwIfAborted()
        return use(path, tools, media)
      }),
    )
  } catch (error) {
    if (signal?.aborted) throw error
    throw aboutVideo(error, index)
  }
}

function aboutVideo(error: unknown, index: number): unknown {
  if (!Qwen2VLError.isInstance(error)) return error
  const message = `Video ${index + 1}: ${error.message}`
  const options = { cause: error.cause ?? error, details: { ...error.details, index } }
  if (error instanceof FetchError) {
    return new FetchError(error.code as `ERR_FETCH_${string}`, message, options)
  }
  return error instanceof InvalidArgumentError
    ? error
    : new VideoError(error.code, message, options)
}

function checkFrames(sizes: readonly Size[], index: number): void {
  if (sizes.length < MIN_FRAMES) throw tooShort(index, sizes.length)
  const [first = noSize] = sizes
  for (const [frame, { width, height }] of sizes.entries()) {
    if (width === first.width && height === first.height) continue
    throw new VideoError(
      'ERR_VIDEO_FRAME_SIZE',
      `Video ${index + 1}: frame ${frame + 1} comes out at ${width} x ${height} pixels, the first at ` +
        `${first.width} x ${first.height}. Frames of one video need one size; resizedHeight and ` +
        'resizedWidth can set it.',
      { details: { index, frame, width, height } },
    )
  }
}

const noSize: Size = { width: 0, height: 0 }

function tooShort(index: number, frames: number, reason = 'at least two are needed'): VideoError {
  const found = frames === 0 ? 'no frames' : frames === 1 ? 'one frame' : `${frames} frames`
  return new VideoError(
    'ERR_VIDEO_TOO_SHORT',
    `Video ${index + 1} has ${found}; ${reason}.` +
      (frames === 1 ? ' Send a single picture as an image.' : ''),
    { details: { index, frames } },
  )
}

/** Options that would have no effect, and why. */
export const unusedOptions = {
  list: {
    names: ['nframes', 'minFrames', 'maxFrames', 'totalPixels', 'videoStart', 'videoEnd'],
    reason: 'a list of frames is used as it is. Leave unwanted frames out of it.',
  },
  stream: {
    names: ['minFrames', 'totalPixels'],
    reason: 'of frames that come one by one it is not known how many there will be. Leave it out.',
  },
} as const

function refuseUnused(options: VideoOptions, kind: keyof typeof unusedOptions): void {
  const { names, reason } = unusedOptions[kind]
  const path = names.find((name) => options[name] !== undefined)
  if (path === undefined) return
  throw new InvalidArgumentError(`${path} has no effect here: ${reason}`, { path })
}

function isList(source: VideoSource): source is readonly VideoFrame[] {
  return Array.isArray(source)
}

function imageOf(frame: VideoFrame): ImageSource {
  return isTimed(frame) ? frame.image : frame
}

function timeOf(frame: VideoFrame): number | undefined {
  const time: unknown =
    typeof frame === 'object' && 'timestamp' in frame ? frame.timestamp : undefined
  return typeof time === 'number' && Number.isFinite(time) ? time : undefined
}

function isTimed(frame: VideoFrame): frame is Exclude<VideoFrame, ImageSource> {
  return typeof frame === 'object' && 'image' in frame
}

function frameOf(index: number, frame: number): Place {
  return { label: `Video ${index + 1}, frame ${frame + 1}`, details: { index, frame } }
}
