/** Finds boxes, quads and points in an answer. What is malformed stays text; nothing here throws on it. */
import { InvalidArgumentError } from '../errors.js'
import {
  GRID,
  scaleTo,
  type Grounding,
  type NormalizedGrounding,
  type Outline,
  type PictureSize,
  type Position,
} from './geometry.js'

/** An answer taken apart. */
export interface ParsedGrounding {
  /** The answer without coordinates and markers: labels and all other text, malformed parts as they came. */
  text: string
  /** In order of appearance. */
  items: NormalizedGrounding[]
}

/** An item, and where in the raw text it ends. */
export interface FoundItem {
  item: NormalizedGrounding
  end: number
}

/**
 * Takes an answer apart. The form is
 * `<|object_ref_start|>label<|object_ref_end|><|box_start|>(x1,y1),(x2,y2)<|box_end|>`; several boxes
 * may follow one label, one pair of coordinates is a point, and `<|quad_start|>` encloses four.
 *
 * A text without any of these markers, as left by decoding without special tokens, is searched for
 * `label(x1,y1),(x2,y2)`: whole numbers up to 1000, no spaces. The label is then all that stands before
 * on the line, and points cannot be told from other brackets.
 */
export function parseGrounding(text: string): ParsedGrounding {
  const { text: rest, found } = /<\|(?:object_ref|box|quad)_/.test(text)
    ? parseMarked(text)
    : parsePlain(text)
  return { text: rest, items: found.map(({ item }) => item) }
}

/** The picture that an answer is about: its size, or something that has one. */
export type ParseBoxesOptions =
  { width: number; height: number; image?: never } | { image: PictureSize }

/**
 * Boxes, quads and points of an answer in pixels of the picture, for texts that come from elsewhere;
 * the results of `generate()` have theirs in `boxes`. `image` is the original picture's size, whatever it
 * was resized to: an entry of `result.images`, or raw pixels. See {@link parseGrounding} for the forms.
 *
 * @throws InvalidArgumentError for options without a size; never for what the text says.
 */
export function parseBoxes(text: string, options: ParseBoxesOptions): Grounding[] {
  const given: unknown = options
  const size = isObject(given) && given['image'] !== undefined ? given['image'] : given
  if (!isObject(size) || !('width' in size) || !('height' in size)) {
    throw new InvalidArgumentError(
      'parseBoxes() needs the size of the picture: { width, height }, or { image } with something ' +
        'that has both, such as result.images[0]. It does not read pictures.',
      { path: 'image' },
    )
  }
  const { width, height } = size as unknown as PictureSize
  return parseGrounding(text).items.map((item) => scaleTo(item, { width, height }))
}

/**
 * Finds items between markers. What it finds in the beginning of a text it finds in the whole text
 * too, so an answer can be searched while it grows.
 */
export function parseMarked(raw: string): { text: string; found: FoundItem[] } {
  const found: FoundItem[] = []
  let text = ''
  let end = 0
  let label = ''
  let labelIsUsed = false
  for (const match of raw.matchAll(construct)) {
    const { ref, box, quad } = match.groups ?? {}
    const between = raw.slice(end, match.index)
    // Words after a box begin something new, to which the label does not belong.
    if (labelIsUsed && !separator.test(between)) label = ''
    text += between
    end = match.index + match[0].length
    if (ref !== undefined) {
      label = ref.trim()
      labelIsUsed = false
      text += ref
      continue
    }
    const item = box !== undefined ? toItem('box', label, box) : toItem('quad', label, quad ?? '')
    if (item === undefined) {
      text += match[0]
      continue
    }
    labelIsUsed = true
    found.push({ item, end })
  }
  return { text: text + raw.slice(end), found }
}

/** A construct cannot contain a marker: an opening one that is not closed before the next is text. */
const inside = String.raw`(?:(?!<\|(?:object_ref|box|quad)_(?:start|end)\|>)[^])*?`
const construct = new RegExp(
  [
    String.raw`<\|object_ref_start\|>(?<ref>${inside})<\|object_ref_end\|>`,
    String.raw`<\|box_start\|>(?<box>${inside})<\|box_end\|>`,
    String.raw`<\|quad_start\|>(?<quad>${inside})<\|quad_end\|>`,
  ].join('|'),
  'g',
)

/** What may stand between two boxes of one label. */
const separator = /^[\s,;.、，；]*$/

/** One to four pairs; numbers of at most six digits before the point, more are no coordinates. */
const number = String.raw`\s*(-?\d{1,6}(?:\.\d{1,6})?)\s*`
const pair = new RegExp(String.raw`\(${number},${number}\)`, 'g')
const pairs = new RegExp(
  String.raw`^\s*\(${number},${number}\)(?:\s*,?\s*\(${number},${number}\)){0,3}\s*$`,
)

function toItem(
  marker: 'box' | 'quad',
  label: string,
  coordinates: string,
): NormalizedGrounding | undefined {
  if (!pairs.test(coordinates)) return undefined
  const points = Array.from(coordinates.matchAll(pair), ([, x, y]): Position => {
    return { x: Number(x), y: Number(y) }
  })
  if (marker === 'quad') return points.length === 4 ? shapeOf(label, points) : undefined
  return points.length <= 2 ? shapeOf(label, points) : undefined
}

function shapeOf(label: string, points: readonly Position[]): NormalizedGrounding | undefined {
  const [a, b, c, d] = points
  if (a === undefined) return undefined
  if (b === undefined) return { kind: 'point', label, normalized: a }
  if (c === undefined) {
    return { kind: 'box', label, normalized: { x1: a.x, y1: a.y, x2: b.x, y2: b.y } }
  }
  if (d === undefined) return undefined
  const corners: Outline['points'] = [a, b, c, d]
  return { kind: 'quad', label, normalized: { points: corners } }
}

const plainChain = /\(\d{1,4},\d{1,4}\)(?:,\(\d{1,4},\d{1,4}\))+/g

/** The form without markers. */
function parsePlain(raw: string): { text: string; found: FoundItem[] } {
  const found: FoundItem[] = []
  let text = ''
  let end = 0
  let label = ''
  for (const match of raw.matchAll(plainChain)) {
    const points = Array.from(match[0].matchAll(pair), ([, x, y]): Position => {
      return { x: Number(x), y: Number(y) }
    })
    const isOnGrid = points.every(({ x, y }) => x <= GRID && y <= GRID)
    if (!isOnGrid || (points.length !== 2 && points.length !== 4)) continue
    const before = raw.slice(end, match.index)
    // Several boxes may follow one label; a new line ends its reach.
    if (!separator.test(before) || before.includes('\n')) label = lastLine(before)
    const item = shapeOf(label, points)
    if (item === undefined) continue
    text += before
    end = match.index + match[0].length
    found.push({ item, end })
  }
  return { text: text + raw.slice(end), found }
}

function lastLine(text: string): string {
  return text
    .slice(text.lastIndexOf('\n') + 1)
    .replace(/^[\s,;.、，；]+/, '')
    .trim()
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}
