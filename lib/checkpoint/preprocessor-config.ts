/** `preprocessor_config.json`: how pixels become numbers, and how many of them an image may have. */
import { UnsupportedModelError } from '../errors.js'
import { Fields, type Range } from './fields.js'
import type { JsonObject } from './files.js'

/** Limits and constants of the checkpoint's image processor. Areas in pixels. */
export interface PreprocessorConfig {
  minPixels: number
  maxPixels: number
  imageMean: [number, number, number]
  imageStd: [number, number, number]
  rescaleFactor: number
}

// Defaults of the reference's class. The published files have a larger maximum, 12845056.
const DEFAULT_MIN_PIXELS = 56 * 56
const DEFAULT_MAX_PIXELS = 28 * 28 * 1280
const IMAGE_MEAN: [number, number, number] = [0.48145466, 0.4578275, 0.40821073]
const IMAGE_STD: [number, number, number] = [0.26862954, 0.26130258, 0.27577711]
const BICUBIC = 3

const AREA: Range = { min: 1, max: 2 ** 31 - 1 }

/** Reads and checks the file; a checkpoint without one gives `{}` here and has the defaults. */
export function parsePreprocessorConfig(json: JsonObject, file: string): PreprocessorConfig {
  const fields = new Fields(file, json)
  checkFixed(fields, file)
  // `size` has two spellings; "edge" is a misnomer there, both are areas.
  const size = fields.optionalObject('size')
  const minPixels =
    fields.optionalInteger('min_pixels', AREA) ??
    size?.optionalInteger('min_pixels', AREA) ??
    size?.optionalInteger('shortest_edge', AREA) ??
    DEFAULT_MIN_PIXELS
  const maxPixels =
    fields.optionalInteger('max_pixels', AREA) ??
    size?.optionalInteger('max_pixels', AREA) ??
    size?.optionalInteger('longest_edge', AREA) ??
    DEFAULT_MAX_PIXELS
  if (minPixels > maxPixels) {
    throw fields.invalid('min_pixels', minPixels, `at most max_pixels, ${maxPixels}`)
  }
  return {
    minPixels,
    maxPixels,
    imageMean: fields.optionalNumberTriple('image_mean', { min: -1e3, max: 1e3 }) ?? IMAGE_MEAN,
    imageStd: fields.optionalNumberTriple('image_std', { min: 1e-6, max: 1e6 }) ?? IMAGE_STD,
    rescaleFactor: fields.optionalNumber('rescale_factor', { min: 1e-9, max: 1e3 }) ?? 1 / 255,
  }
}

/** What the model's shape or the reference's processor fixes must say so, or nothing. */
function checkFixed(fields: Fields, file: string): void {
  const sizes: [key: string, value: number][] = [
    ['patch_size', 14],
    ['temporal_patch_size', 2],
    ['merge_size', 2],
  ]
  for (const [key, value] of sizes) {
    const stated = fields.optionalInteger(key, { min: 1, max: 1 << 20 }) ?? value
    if (stated !== value) throw fields.invalid(key, stated, String(value))
  }
  const resample = fields.optionalInteger('resample', { min: 0, max: 100 }) ?? BICUBIC
  if (resample !== BICUBIC) {
    throw new UnsupportedModelError(
      `${file}: resample is ${resample}; Qwen2-VL resizes with ${BICUBIC}, bicubic.`,
      { details: { file } },
    )
  }
  for (const key of ['do_resize', 'do_rescale', 'do_normalize']) {
    if (fields.optionalBoolean(key) === false) {
      throw new UnsupportedModelError(
        `${file} switches ${key} off. The model needs this step; use the published file.`,
        { details: { file } },
      )
    }
  }
}
