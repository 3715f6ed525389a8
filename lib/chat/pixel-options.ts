/** The options that say how large a picture becomes, in either spelling, and what can be a picture. */
import type { PixelOptions } from '../processor/image.js'
import { isImageSource, type ImageSource } from '../processor/source.js'
import { invalid, nameOf, shown } from './checks.js'

/** {@link PixelOptions} as the Python reference spells them. */
export interface SnakeCasePixelOptions {
  min_pixels?: number
  max_pixels?: number
  resized_height?: number
  resized_width?: number
}

const pixelNames = [
  ['minPixels', 'min_pixels'],
  ['maxPixels', 'max_pixels'],
  ['resizedHeight', 'resized_height'],
  ['resizedWidth', 'resized_width'],
] as const
/** All spellings of the options. */
export const pixelKeys = pixelNames.flat()

/** Reads the pixel options of either spelling into the camelCase ones. */
export function pixelOptions(part: Record<string, unknown>, path: string): PixelOptions {
  const options: PixelOptions = {}
  for (const [name, snakeName] of pixelNames) {
    const given = [name, snakeName].filter((key) => part[key] !== undefined)
    const key = given[0]
    if (key === undefined) continue
    if (given.length > 1) {
      throw invalid(`${path}.${snakeName}`, `${path} has both ${name} and ${snakeName}. Give one.`)
    }
    const value = part[key]
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 1) {
      throw invalid(
        `${path}.${key}`,
        `${path}.${key} must be a whole number of pixels from 1 up, not ${shown(value)}.`,
      )
    }
    options[name] = value
  }
  return options
}

/** @throws InvalidArgumentError for limits that contradict each other. */
export function checkLimits(options: PixelOptions, path: string): void {
  const { minPixels, maxPixels, resizedHeight, resizedWidth } = options
  if (minPixels !== undefined && maxPixels !== undefined && minPixels > maxPixels) {
    throw invalid(
      `${path}.minPixels`,
      `${path}.minPixels is ${minPixels}, which is more than maxPixels, ${maxPixels}.`,
    )
  }
  if ((resizedHeight === undefined) !== (resizedWidth === undefined)) {
    const missing = resizedHeight === undefined ? 'resizedHeight' : 'resizedWidth'
    throw invalid(
      `${path}.${missing}`,
      `${path}.${missing} is missing. resizedHeight and resizedWidth go together.`,
    )
  }
}

/** @throws InvalidArgumentError for what cannot be an image, whatever is inside. */
export function imageSource(value: unknown, path: string): ImageSource {
  if (value === '') throw invalid(path, `${path} is an empty string. Give a path or a URL.`)
  if (isImageSource(value)) return value
  throw invalid(
    path,
    `${path} must be a path, a URL, the bytes of an image file (Buffer, typed array, ArrayBuffer, Blob, ` +
      `stream), raw pixels { data, width, height, channels } or a sharp pipeline, not ${nameOf(value)}.`,
  )
}
