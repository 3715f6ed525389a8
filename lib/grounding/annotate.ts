/** Draws what an answer points at on its picture. */
import { fromNativeError, ImageError, InvalidArgumentError } from '../errors.js'
import { nativeBinding, type NativeImage } from '../native.js'
import { decodeSource } from '../processor/image.js'
import { toMediaOptions } from '../processor/media-options.js'
import type { PreparedImage } from '../processor/prepared-image.js'
import { sharp } from '../processor/sharp.js'
import type { ImageSource } from '../processor/source.js'
import { nearestName } from '../suggest.js'
import {
  scaleTo,
  type Box,
  type NormalizedGrounding,
  type PictureSize,
  type Point,
  type Quad,
} from './geometry.js'
import { styleFor, toSvg, type DrawingStyle, type Shape } from './overlay.js'

/**
 * Something to draw: in pixels of the picture, as in `result.boxes`; or on the model's grid, as in
 * `result.unplacedBoxes`.
 */
export type Annotation = PlacedAnnotation | NormalizedGrounding

/** Something to draw, in pixels of the picture. */
export type PlacedAnnotation =
  Omit<Box, 'normalized'> | Omit<Quad, 'normalized'> | Omit<Point, 'normalized'>

/** What can be drawn on: an image as messages take it, but not a prepared one, whose pixels are resized. */
export type AnnotateSource = Exclude<ImageSource, PreparedImage>

/** How `annotate()` draws. */
export interface AnnotateOptions {
  /** Default: `png`. */
  format?: 'png' | 'jpeg'
  /** Of a JPEG, 1 to 100. Default: 90. */
  quality?: number
  /** As `#rrggbb`. Each label has its own, in order of appearance. Default: ten that are far apart. */
  colors?: readonly string[]
  /** In pixels. Default: by the size of the picture, at least 2. */
  lineWidth?: number
  /** In pixels. Default: by the size of the picture, at least 11. */
  fontSize?: number
  /** Whether labels are written. Default: true. Letters come from the fonts that the system has. */
  labels?: boolean
  /** As the model that gave the boxes was loaded with. Default: `ignore`. */
  exif?: 'ignore' | 'apply'
  signal?: AbortSignal
}

/**
 * The picture, in its own size, with boxes, quads and points drawn on it, as a file. Everything but the
 * drawing is as the model saw it: first frame, no transparency, no colour profile.
 *
 * @throws ImageError for a picture that cannot be read; InvalidArgumentError for boxes or options that
 *   are none.
 */
export async function annotate(
  image: AnnotateSource,
  boxes: readonly Annotation[],
  options: AnnotateOptions = {},
): Promise<Buffer> {
  checkOptions(options)
  checkBoxes(boxes)
  const { format = 'png', quality = 90, signal } = options
  const picture = await decode(image, options)
  const { width, height } = picture
  checkSide({ width, height })
  signal?.throwIfAborted()
  const shapes = boxes.map((box): Shape => (isPlaced(box) ? box : scaleTo(box, { width, height })))
  const svg = toSvg({ width, height }, shapes, styleOf(options, { width, height }))
  const pipeline = sharp(picture.toRgb(), {
    raw: { width, height, channels: 3 },
    limitInputPixels: false,
  })
    .composite([{ input: Buffer.from(svg), limitInputPixels: false }])
    .removeAlpha()
  const encoded = format === 'png' ? pipeline.png() : pipeline.jpeg({ quality })
  const file = await encoded.toBuffer()
  signal?.throwIfAborted()
  return file
}

async function decode(image: ImageSource, { exif, signal }: AnnotateOptions): Promise<NativeImage> {
  try {
    const { pixels, alpha } = await decodeSource(image, toMediaOptions({ exif }), signal)
    return await nativeBinding().prepareImage(pixels, alpha, [])
  } catch (error) {
    const typed = fromNativeError(error)
    if (!(typed instanceof ImageError)) throw typed
    const { code, message, details } = typed
    throw new ImageError(code, `The image: ${message}`, { cause: typed.cause ?? typed, details })
  }
}

function styleOf(options: AnnotateOptions, size: PictureSize): DrawingStyle {
  const style = styleFor(size)
  return {
    colors: options.colors ?? style.colors,
    lineWidth: options.lineWidth ?? style.lineWidth,
    fontSize: options.fontSize ?? style.fontSize,
    labels: options.labels ?? style.labels,
  }
}

/** Drawings of more are not rendered. */
const MAX_SIDE = 32_767

function checkSide({ width, height }: PictureSize): void {
  if (Math.max(width, height) <= MAX_SIDE) return
  throw new ImageError(
    'ERR_IMAGE_TOO_LARGE',
    `The image has ${width} x ${height} pixels; one with a side of more than ${MAX_SIDE} cannot be drawn ` +
      'on. Shrink it, and bring the boxes to its new size with scaleTo().',
    { details: { width, height, limit: MAX_SIDE } },
  )
}

type Check = [isRight: (value: unknown) => boolean, expected: string]

const isFinite = (value: unknown) => typeof value === 'number' && Number.isFinite(value)
const isSize = (value: unknown) => isFinite(value) && Number(value) > 0
const isColor = (value: unknown) => typeof value === 'string' && /^#[0-9a-f]{6}$/i.test(value)

const optionChecks: Readonly<Record<keyof AnnotateOptions, Check>> = {
  format: [(value) => value === 'png' || value === 'jpeg', "'png' or 'jpeg'"],
  quality: [
    (value) => Number.isInteger(value) && Number(value) >= 1 && Number(value) <= 100,
    'a whole number from 1 to 100',
  ],
  colors: [
    (value) => Array.isArray(value) && value.length > 0 && value.every(isColor),
    "a list of colours such as '#ff0000'",
  ],
  lineWidth: [isSize, 'a number above 0'],
  fontSize: [isSize, 'a number above 0'],
  labels: [(value) => typeof value === 'boolean', 'true or false'],
  exif: [(value) => value === 'ignore' || value === 'apply', "'ignore' or 'apply'"],
  signal: [(value) => value instanceof AbortSignal, 'an AbortSignal'],
}

function checkOptions(options: AnnotateOptions): void {
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined) continue
    if (!Object.hasOwn(optionChecks, name)) {
      const names = Object.keys(optionChecks)
      const suggestion = nearestName(name, names)
      throw new InvalidArgumentError(
        `annotate() options: there is no option '${name}'. ` +
          (suggestion === undefined
            ? `The options are: ${names.join(', ')}.`
            : `Did you mean '${suggestion}'?`),
        { path: name, ...(suggestion !== undefined && { suggestion }) },
      )
    }
    const [isRight, expected] = optionChecks[name as keyof AnnotateOptions]
    if (isRight(value)) continue
    throw new InvalidArgumentError(`annotate() options: ${name} must be ${expected}.`, {
      path: name,
    })
  }
  if (options.quality !== undefined && options.format !== 'jpeg') {
    throw new InvalidArgumentError(
      "annotate() options: quality belongs to format: 'jpeg'. Leave it out, or give that format.",
      { path: 'quality' },
    )
  }
}

function checkBoxes(boxes: readonly Annotation[]): void {
  if (!Array.isArray(boxes)) {
    throw new InvalidArgumentError('annotate() needs a list of boxes, such as result.boxes.', {
      path: 'boxes',
    })
  }
  boxes.forEach((box: unknown, index) => {
    if (isAnnotation(box)) return
    throw new InvalidArgumentError(
      `annotate(): boxes[${index}] is no box, quad or point. Each has a kind, a label, and numbers for ` +
        'its pixels (x1, y1, x2, y2; points; x, y) or normalized with the same.',
      { path: `boxes[${index}]` },
    )
  })
}

function isAnnotation(box: unknown): box is Annotation {
  if (!isObject(box) || typeof box['label'] !== 'string') return false
  const place: unknown = isPlaced(box) ? box : box['normalized']
  if (!isObject(place)) return false
  switch (box['kind']) {
    case 'box':
      return ['x1', 'y1', 'x2', 'y2'].every((name) => isFinite(place[name]))
    case 'quad': {
      const { points } = place
      return Array.isArray(points) && points.length === 4 && points.every(isPosition)
    }
    case 'point':
      return isPosition(place)
    default:
      return false
  }
}

/** Tells by the names alone; the numbers are checked apart. */
function isPlaced(box: object): box is PlacedAnnotation {
  return 'x1' in box || 'points' in box || 'x' in box
}

function isPosition(value: unknown): boolean {
  return isObject(value) && isFinite(value['x']) && isFinite(value['y'])
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}
