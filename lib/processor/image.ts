/** From a source to an item for the vision tower: read, decode, resize as the reference does. */
import { availableParallelism } from 'node:os'
import type { PreprocessorConfig } from '../checkpoint/checkpoint.js'
import { FetchError, fromNativeError, ImageError, InvalidArgumentError } from '../errors.js'
import { nativeBinding, type NativeImage, type NativeVisionItem } from '../native.js'
import { decodeImage, readImageSize, type DecodedImage } from './decode.js'
import { DEFAULT_MEDIA_OPTIONS, processorLimits, type MediaOptions } from './media-options.js'
import {
  DEFAULT_MAX_PIXELS,
  DEFAULT_MIN_PIXELS,
  SIDE_MULTIPLE,
  smartResize,
  type Size,
} from './smart-resize.js'
import { PreparedImage } from './prepared-image.js'
import { loadSource, type ImageSource } from './source.js'
import type { VideoInfo } from './video.js'

/** Size limits of one image or of each frame of one video, in pixels; unset ones are the checkpoint's. */
export interface PixelOptions {
  /** Smaller pictures are enlarged to at least this area. */
  minPixels?: number
  /** Larger pictures are shrunk to at most this area. */
  maxPixels?: number
  /** Exact height before rounding to a multiple of 28; needs `resizedWidth` and replaces the limits. */
  resizedHeight?: number
  /** Exact width before rounding to a multiple of 28; needs `resizedHeight` and replaces the limits. */
  resizedWidth?: number
}

/** The size a picture came in, the size the model sees, and what that costs. */
export interface ImageInfo {
  width: number
  height: number
  resizedWidth: number
  resizedHeight: number
  tokens: number
}

interface Measured {
  /** Time, height and width in patches. */
  gridThw: [number, number, number]
  /** Visual tokens, which is how often the placeholder stands in the prompt. */
  tokens: number
}

/** What is known of an image without its pixels. */
export interface MeasuredImage extends Measured {
  kind: 'image'
  info: ImageInfo
}

/** What is known of a video without its pixels. */
export interface MeasuredVideo extends Measured {
  kind: 'video'
  info: VideoInfo
}

/** An image or a video without its pixels. */
export type MeasuredItem = MeasuredImage | MeasuredVideo

/** An image or a video that is ready for the model. */
export type PreparedItem = MeasuredItem & { native: NativeVisionItem }

/** What is known about the request an image belongs to. */
export interface PrepareContext {
  /** Position among the images and videos of the request, from 0; errors carry it. */
  index: number
  /** Ends the work between its stages; the promise then rejects with the signal's reason. */
  signal?: AbortSignal
  /** The model's rules for images. Default: {@link DEFAULT_MEDIA_OPTIONS}. */
  media?: MediaOptions | undefined
  /** Does the part of the work on a video that takes memory, when there is a place for it. Default: at once. */
  inPlace?: (<T>(work: () => Promise<T>) => Promise<T>) | undefined
}

/**
 * Prepares one image. Decoding and resizing happen off the event loop.
 *
 * @throws ImageError with the `index` of the image for one that cannot be used.
 */
export async function prepareImage(
  source: ImageSource,
  options: PixelOptions,
  preprocessor: PreprocessorConfig,
  context: PrepareContext,
): Promise<PreparedItem> {
  checkPixelOptions(options)
  const place = imageAt(context.index)
  const { original, image } = await prepareFrame(source, options, preprocessor, context, place)
  return { ...describe(original, image), native: { frames: [image], isVideo: false } }
}

/**
 * The bytes of an image that has to be received first.
 *
 * @throws as prepareImage() does.
 */
export async function receiveImage(
  source: ImageSource,
  { index, signal, media }: PrepareContext,
): Promise<ImageSource> {
  try {
    signal?.throwIfAborted()
    if (source instanceof PreparedImage) return source
    const loaded = await loadSource(source, media, signal)
    return loaded.kind === 'encoded' ? loaded.bytes : loaded.pixels
  } catch (error) {
    throw located(error, imageAt(index))
  }
}

/**
 * Size and tokens of an image, of which only the header is read.
 *
 * @throws ImageError as prepareImage() does, but for damage behind the header.
 */
export async function measureImage(
  source: ImageSource,
  options: PixelOptions,
  preprocessor: PreprocessorConfig,
  context: PrepareContext,
): Promise<MeasuredItem> {
  checkPixelOptions(options)
  const place = imageAt(context.index)
  const { original, resized } = await measureFrame(source, options, preprocessor, context, place)
  return describe(original, resized)
}

function imageAt(index: number): Place {
  return { label: `Image ${index + 1}`, details: { index } }
}

function describe(original: Size, resized: Size): MeasuredImage {
  const patch = SIDE_MULTIPLE / 2
  const gridThw: MeasuredImage['gridThw'] = [1, resized.height / patch, resized.width / patch]
  const tokens = (gridThw[1] * gridThw[2]) / 4
  const { width, height } = original
  const info = { width, height, resizedWidth: resized.width, resizedHeight: resized.height, tokens }
  return { kind: 'image', info, gridThw, tokens }
}

/**
 * The sizes a picture goes through: first the rule of qwen-vl-utils with the request's limits, then
 * the checkpoint's processor with its own, as in the published flow. Steps that change nothing are
 * left out, so the list can be empty.
 */
export function planResizes(
  original: Size,
  options: PixelOptions,
  preprocessor: Pick<PreprocessorConfig, 'minPixels' | 'maxPixels'>,
  model: Pick<MediaOptions, 'minPixels' | 'maxPixels'> = {},
): Size[] {
  const { resizedHeight, resizedWidth } = options
  const defaults = { minPixels: DEFAULT_MIN_PIXELS, maxPixels: DEFAULT_MAX_PIXELS }
  const requested =
    resizedHeight !== undefined && resizedWidth !== undefined
      ? smartResize({ width: resizedWidth, height: resizedHeight }, defaults, 'utils')
      : smartResize(
          original,
          {
            minPixels: options.minPixels ?? defaults.minPixels,
            maxPixels: options.maxPixels ?? defaults.maxPixels,
          },
          'utils',
        )
  const final = smartResize(requested, processorLimits(options, model, preprocessor), 'processor')
  const steps: Size[] = []
  let current = original
  for (const size of [requested, final]) {
    if (size.width !== current.width || size.height !== current.height) steps.push(size)
    current = size
  }
  return steps
}

/** A picture, resized. */
export interface PreparedFrame {
  original: Size
  image: NativeImage
}

/** Where a picture stands in the request, for its errors. */
export interface Place {
  label: string
  details: Record<string, number>
}

/** Prepares a picture: an image, or a frame of a video that is given as pictures. */
export async function prepareFrame(
  source: ImageSource,
  options: PixelOptions,
  preprocessor: PreprocessorConfig,
  context: PrepareContext,
  place: Place,
): Promise<PreparedFrame> {
  const { signal, media = DEFAULT_MEDIA_OPTIONS } = context
  try {
    signal?.throwIfAborted()
    if (source instanceof PreparedImage) return source.frame(options)
    const { pixels, alpha } = await decodeSource(source, media, signal)
    signal?.throwIfAborted()
    const original = { width: pixels.width, height: pixels.height }
    const sizes = planResizes(original, options, preprocessor, media)
    for (const size of sizes) checkResizedSize(size, media.maxImagePixels)
    const image = await nativeBinding().prepareImage(pixels, alpha, sizes)
    signal?.throwIfAborted()
    return { original, image }
  } catch (error) {
    throw located(error, place)
  }
}

/** The size a picture has and the one it would come out in, from its header alone. */
export async function measureFrame(
  source: ImageSource,
  options: PixelOptions,
  preprocessor: PreprocessorConfig,
  { signal, media = DEFAULT_MEDIA_OPTIONS }: PrepareContext,
  place: Place,
): Promise<{ original: Size; resized: Size }> {
  try {
    signal?.throwIfAborted()
    if (source instanceof PreparedImage) {
      const { original, image } = source.frame(options)
      return { original, resized: { width: image.width, height: image.height } }
    }
    const loaded = await loadSource(source, media, signal)
    signal?.throwIfAborted()
    const { width, height } =
      loaded.kind === 'encoded' ? await readImageSize(loaded.bytes, media) : loaded.pixels
    const original = { width, height }
    const sizes = planResizes(original, options, preprocessor, media)
    for (const size of [original, ...sizes]) checkResizedSize(size, media.maxImagePixels)
    signal?.throwIfAborted()
    return { original, resized: sizes.at(-1) ?? original }
  } catch (error) {
    throw located(error, place)
  }
}

export async function decodeSource(
  source: ImageSource,
  media: MediaOptions,
  signal: AbortSignal | undefined,
): Promise<DecodedImage> {
  const loaded = await loadSource(source, media, signal)
  signal?.throwIfAborted()
  if (loaded.kind === 'encoded') return decodeImage(loaded.bytes, media)
  const { data, width, height, channels } = loaded.pixels
  checkResizedSize({ width, height }, media.maxImagePixels)
  return {
    pixels: {
      data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
      width,
      height,
      channels,
      cmyk: false,
    },
    alpha: channels === 4 ? media.alpha : 'drop',
  }
}

/** Adds where the picture stands to an error about it. */
function located(error: unknown, { label, details }: Place): unknown {
  const typed = fromNativeError(error)
  if (!(typed instanceof ImageError || typed instanceof FetchError)) return typed
  const message = `${label}: ${typed.message}`
  const options = { cause: typed.cause ?? typed, details: { ...typed.details, ...details } }
  return typed instanceof ImageError
    ? new ImageError(typed.code, message, options)
    : new FetchError(typed.code as `ERR_FETCH_${string}`, message, options)
}

/** A minimum asked for can be as absurd as a picture. */
function checkResizedSize({ width, height }: Size, maxPixels: number): void {
  if (width * height <= maxPixels) return
  throw new ImageError(
    'ERR_IMAGE_TOO_LARGE',
    `${width} x ${height} = ${(width * height).toLocaleString('en')} pixels are more than the ` +
      `${maxPixels.toLocaleString('en')} that a picture may have. Lower minPixels or the size.`,
    { details: { width, height, limit: maxPixels } },
  )
}

/** @throws InvalidArgumentError for a limit or size that is no positive integer. */
export function checkPixelOptions(options: PixelOptions): void {
  const { minPixels, maxPixels, resizedHeight, resizedWidth } = options
  for (const [name, value] of Object.entries({
    minPixels,
    maxPixels,
    resizedHeight,
    resizedWidth,
  })) {
    if (value === undefined || (Number.isSafeInteger(value) && value > 0)) continue
    throw new InvalidArgumentError(`${name} is ${String(value)}; expected a positive integer.`, {
      path: name,
    })
  }
}

/** Pictures that are decoded at once, each of which takes its memory. */
const MAX_CONCURRENCY = Math.min(4, availableParallelism())

/**
 * Maps with a few items under way at once. After a failure no further item is begun, and the promise
 * rejects when the ones under way have ended.
 */
export async function mapConcurrently<T, R>(
  items: readonly T[],
  map: (item: T, index: number) => Promise<R>,
): Promise<R[]> {
  const results = new Array<R>(items.length)
  const queue = items.entries()
  let failed = false
  const work = async () => {
    for (const [index, item] of queue) {
      if (failed) return
      try {
        results[index] = await map(item, index)
      } catch (error) {
        failed = true
        throw error
      }
    }
  }
  const workers = Array.from({ length: Math.min(MAX_CONCURRENCY, items.length) }, work)
  const settled = await Promise.allSettled(workers)
  const failure = settled.find((worker) => worker.status === 'rejected')
  if (failure !== undefined) throw failure.reason
  return results
}
