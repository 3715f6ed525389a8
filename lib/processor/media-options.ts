/** What a model accepts as images and videos, and from where. Set once, when the model is loaded. */
import type { PreprocessorConfig } from '../checkpoint/checkpoint.js'
import type { PixelOptions } from './image.js'
import type { VideoProfile } from './sampling.js'

/** Rules for images and videos that hold for all requests of a model. */
export interface MediaOptions {
  /** Takes the place of the checkpoint's smallest area in pixels. */
  minPixels?: number | undefined
  /** Takes the place of the checkpoint's largest area in pixels. */
  maxPixels?: number | undefined
  /** Largest encoded image, in bytes, wherever it comes from. */
  maxImageBytes: number
  /** Most pixels an image may have, looked at before it is decoded. */
  maxImagePixels: number
  /** Whether `http:` and `https:` addresses are fetched. */
  allowUrls: boolean
  /** Whether paths and `file:` URLs are read. */
  allowFiles: boolean
  /**
   * The hosts that may be asked, exact (`images.example.com`) or all below one (`*.example.com`).
   * undefined: every public host.
   */
  allowedHosts?: readonly string[] | undefined
  /** Whether addresses of private networks, of this machine and other reserved ones may be asked. */
  allowPrivateHosts: boolean
  /** Time for one fetch, redirects included. undefined: 10 s for an image, 60 s for a video. */
  fetchTimeoutMs?: number | undefined
  /** What becomes of transparency: white behind it (qwen-vl-utils since 0.0.10), or ignored (0.0.8). */
  alpha: 'composite' | 'drop'
  /** Whether pictures are turned as their EXIF orientation says. The reference does not. */
  exif: 'ignore' | 'apply'
  /** Largest video file in bytes, wherever it comes from. */
  maxVideoBytes: number
  /** The ffmpeg that decodes video files. undefined: it is looked for. */
  ffmpegPath?: string | undefined
  /** The longest wait for ffmpeg's next output. */
  videoTimeoutMs: number
  /** Which published rules choose and size the frames of video files. */
  videoProfile: VideoProfile
}

/** What holds where nothing was set. */
export const DEFAULT_MEDIA_OPTIONS: MediaOptions = {
  maxImageBytes: 64 << 20,
  maxImagePixels: 1 << 28,
  allowUrls: true,
  allowFiles: true,
  allowPrivateHosts: false,
  alpha: 'composite',
  exif: 'ignore',
  maxVideoBytes: 2 ** 31,
  videoTimeoutMs: 60_000,
  videoProfile: 'utils-0.0.8',
}

/** Completes what was set with the defaults. */
export function toMediaOptions(given: {
  [Key in keyof MediaOptions]?: MediaOptions[Key] | undefined
}): MediaOptions {
  const defaults = DEFAULT_MEDIA_OPTIONS
  return {
    minPixels: given.minPixels,
    maxPixels: given.maxPixels,
    maxImageBytes: given.maxImageBytes ?? defaults.maxImageBytes,
    maxImagePixels: given.maxImagePixels ?? defaults.maxImagePixels,
    allowUrls: given.allowUrls ?? defaults.allowUrls,
    allowFiles: given.allowFiles ?? defaults.allowFiles,
    allowedHosts: given.allowedHosts,
    allowPrivateHosts: given.allowPrivateHosts ?? defaults.allowPrivateHosts,
    fetchTimeoutMs: given.fetchTimeoutMs,
    alpha: given.alpha ?? defaults.alpha,
    exif: given.exif ?? defaults.exif,
    maxVideoBytes: given.maxVideoBytes ?? defaults.maxVideoBytes,
    ffmpegPath: given.ffmpegPath,
    videoTimeoutMs: given.videoTimeoutMs ?? defaults.videoTimeoutMs,
    videoProfile: given.videoProfile ?? defaults.videoProfile,
  }
}

/** Time for fetching one image. */
export const IMAGE_FETCH_TIMEOUT_MS = 10_000
/** Time for fetching one video. */
export const VIDEO_FETCH_TIMEOUT_MS = 60_000

/**
 * The limits of the checkpoint's processor for one image: a limit of the model takes the place of
 * the file's, unless the image states that limit, or its size, itself.
 */
export function processorLimits(
  item: PixelOptions,
  model: Pick<MediaOptions, 'minPixels' | 'maxPixels'>,
  file: Pick<PreprocessorConfig, 'minPixels' | 'maxPixels'>,
): { minPixels: number; maxPixels: number } {
  if (item.resizedHeight !== undefined && item.resizedWidth !== undefined) {
    return { minPixels: file.minPixels, maxPixels: file.maxPixels }
  }
  const { minPixels: itemMin, maxPixels: itemMax } = item
  const { minPixels: modelMin, maxPixels: modelMax } = model
  // The model's other limit does not count either where it contradicts the image's own.
  const useMin = itemMin === undefined && !(itemMax !== undefined && (modelMin ?? 0) > itemMax)
  const useMax =
    itemMax === undefined && !(itemMin !== undefined && (modelMax ?? Infinity) < itemMin)
  const maxPixels = (useMax ? modelMax : undefined) ?? file.maxPixels
  const minPixels = (useMin ? modelMin : undefined) ?? file.minPixels
  return { minPixels: Math.min(minPixels, maxPixels), maxPixels }
}
