/** Where the model says things are: on its own grid, and in the pixels of a picture. */
import { InvalidArgumentError } from '../errors.js'

/** The model's coordinates run from 0 to this on both axes, whatever the size of the picture. */
export const GRID = 1000

/** Two opposite corners. In pixels the first is the top left one. */
export interface Corners {
  x1: number
  y1: number
  x2: number
  y2: number
}

/** A place: in pixels, or on the model's grid. */
export interface Position {
  x: number
  y: number
}

/** The corners of a four-sided shape, in the order in which the model named them. */
export interface Outline {
  points: [Position, Position, Position, Position]
}

/**
 * Something the model has pointed at, as it said it: coordinates on the grid from 0 to 1000, neither
 * clamped nor put in order. {@link scaleTo} gives pixels.
 */
export type NormalizedGrounding =
  | { kind: 'box'; label: string; normalized: Corners }
  | { kind: 'quad'; label: string; normalized: Outline }
  | { kind: 'point'; label: string; normalized: Position }

/** A rectangle in pixels of the picture: `x1 <= x2`, `y1 <= y2`, all of it inside. */
export interface Box extends Corners {
  kind: 'box'
  /** What is there; empty where the model gave no name. */
  label: string
  /** As the model said it, from 0 to 1000. */
  normalized: Corners
}

/** A four-sided shape in pixels of the picture. */
export interface Quad extends Outline {
  kind: 'quad'
  label: string
  normalized: Outline
}

/** A place in pixels of the picture. */
export interface Point extends Position {
  kind: 'point'
  label: string
  normalized: Position
}

/** Something the model has pointed at, in pixels of the picture. `kind` tells which of the three. */
export type Grounding = Box | Quad | Point

/** A size in pixels. {@link ImageInfo} is one, and so are raw pixels. */
export interface PictureSize {
  width: number
  height: number
}

/**
 * Brings a box, quad or point from the model's grid to the pixels of a picture: `x / 1000 * width`,
 * not rounded. What lies outside the grid is moved to its edge; the corners of a box are put in order.
 *
 * @throws InvalidArgumentError if the size is not one.
 */
export function scaleTo(item: Extract<NormalizedGrounding, { kind: 'box' }>, size: PictureSize): Box
export function scaleTo(item: NormalizedGrounding, size: PictureSize): Grounding
export function scaleTo(item: NormalizedGrounding, size: PictureSize): Grounding {
  checkSize(size)
  const { label } = item
  const toPixels = ({ x, y }: Position): Position => ({
    x: (clamp(x) * size.width) / GRID,
    y: (clamp(y) * size.height) / GRID,
  })
  switch (item.kind) {
    case 'box': {
      const { normalized } = item
      const a = toPixels({ x: normalized.x1, y: normalized.y1 })
      const b = toPixels({ x: normalized.x2, y: normalized.y2 })
      return {
        kind: 'box',
        label,
        x1: Math.min(a.x, b.x),
        y1: Math.min(a.y, b.y),
        x2: Math.max(a.x, b.x),
        y2: Math.max(a.y, b.y),
        normalized,
      }
    }
    case 'quad': {
      const { normalized } = item
      const [a, b, c, d] = normalized.points
      const points: Outline['points'] = [toPixels(a), toPixels(b), toPixels(c), toPixels(d)]
      return { kind: 'quad', label, points, normalized }
    }
    case 'point': {
      const { normalized } = item
      return { kind: 'point', label, ...toPixels(normalized), normalized }
    }
  }
}

function clamp(value: number): number {
  return Math.min(Math.max(value, 0), GRID)
}

function checkSize(size: PictureSize): void {
  for (const name of ['width', 'height'] as const) {
    const value: unknown = size[name]
    if (typeof value === 'number' && Number.isSafeInteger(value) && value > 0) continue
    throw new InvalidArgumentError(
      `${name} is ${typeof value === 'number' ? value : `a ${typeof value}`}; expected the ` +
        "picture's in pixels, a whole number from 1 up.",
      { path: name },
    )
  }
}
