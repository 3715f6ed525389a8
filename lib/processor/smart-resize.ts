/** The sizes images are resized to: sides multiples of 28, area within limits. */
import { ImageError } from '../errors.js'

/** Side of the square of pixels that becomes one visual token: 2 x 2 patches of 14 x 14. */
export const SIDE_MULTIPLE = 28
/** Limits of an image's area that `qwen-vl-utils` applies unless told otherwise, in pixels. */
export const DEFAULT_MIN_PIXELS = 4 * SIDE_MULTIPLE ** 2
export const DEFAULT_MAX_PIXELS = 16384 * SIDE_MULTIPLE ** 2
/** The longer side may be this many times the shorter one. */
const MAX_ASPECT_RATIO = 200

export interface Size {
  width: number
  height: number
}

/** Area limits in pixels. */
export interface PixelLimits {
  minPixels: number
  maxPixels: number
}

/**
 * The two published variants of the rule, which differ for very thin images only: `utils`
 * (qwen-vl-utils) lifts sides to 28 before it looks at the area, `processor` (transformers) after
 * it has shrunk.
 */
export type ResizeVariant = 'utils' | 'processor'

/**
 * The size an image of `size` is resized to. The order of every operation is the reference's:
 * another one rounds differently (10000 x 10000 gives 3556, not 3584).
 *
 * @throws ImageError `ERR_ASPECT_RATIO` beyond a ratio of 200, and for the thin images with a small
 *   maximum for which the rule itself gives a side of 0.
 */
export function smartResize(size: Size, limits: PixelLimits, variant: ResizeVariant): Size {
  const { width, height } = size
  const { minPixels, maxPixels } = limits
  checkAspectRatio(size)
  const factor = SIDE_MULTIPLE
  const smallest = variant === 'utils' ? factor : 0
  let resizedHeight = Math.max(smallest, roundHalfToEven(height / factor) * factor)
  let resizedWidth = Math.max(smallest, roundHalfToEven(width / factor) * factor)
  if (resizedHeight * resizedWidth > maxPixels) {
    const shrink = Math.sqrt((height * width) / maxPixels)
    const smallestShrunk = variant === 'processor' ? factor : 0
    resizedHeight = Math.max(smallestShrunk, Math.floor(height / shrink / factor) * factor)
    resizedWidth = Math.max(smallestShrunk, Math.floor(width / shrink / factor) * factor)
  } else if (resizedHeight * resizedWidth < minPixels) {
    const grow = Math.sqrt(minPixels / (height * width))
    resizedHeight = Math.ceil((height * grow) / factor) * factor
    resizedWidth = Math.ceil((width * grow) / factor) * factor
  }
  if (resizedHeight === 0 || resizedWidth === 0) {
    throw new ImageError(
      'ERR_ASPECT_RATIO',
      `An image of ${width} x ${height} pixels cannot be brought under ${maxPixels} pixels: its ` +
        `sides would be ${resizedWidth} x ${resizedHeight}. Raise maxPixels or crop the image.`,
      { details: { width, height, maxPixels } },
    )
  }
  return { width: resizedWidth, height: resizedHeight }
}

/** Python's round(): halves go to the even neighbour, so 42 / 28 = 1.5 gives 2 and 2.5 gives 2. */
export function roundHalfToEven(value: number): number {
  const below = Math.floor(value)
  const rest = value - below
  if (rest !== 0.5) return rest < 0.5 ? below : below + 1
  return below % 2 === 0 ? below : below + 1
}

function checkAspectRatio({ width, height }: Size): void {
  const ratio = Math.max(width, height) / Math.min(width, height)
  if (ratio <= MAX_ASPECT_RATIO) return
  throw new ImageError(
    'ERR_ASPECT_RATIO',
    `An image of ${width} x ${height} pixels has an aspect ratio of ${ratio.toFixed(1)}; at most ` +
      `${MAX_ASPECT_RATIO} is possible. Crop it, or pad it to a less extreme shape.`,
    { details: { width, height } },
  )
}
