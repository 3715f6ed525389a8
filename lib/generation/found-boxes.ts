/** Brings what an answer points at to pixels, where it is clear of which picture. */
import {
  scaleTo,
  type Grounding,
  type NormalizedGrounding,
  type PictureSize,
} from '../grounding/geometry.js'
import type { GenerationEvent } from './result.js'

/** The size that all pictures of a request have; undefined if there is none, or not one alone. */
export function commonSize(pictures: readonly PictureSize[]): PictureSize | undefined {
  const [first] = pictures
  if (first === undefined) return undefined
  const { width, height } = first
  const isSame = (other: PictureSize) => other.width === width && other.height === height
  return pictures.every(isSame) ? { width, height } : undefined
}

/** The boxes of one answer so far. */
export class FoundBoxes {
  readonly boxes: Grounding[] = []
  readonly unplacedBoxes: NormalizedGrounding[] = []
  readonly #size: PictureSize | undefined

  constructor(size: PictureSize | undefined) {
    this.#size = size
  }

  /** Keeps an item, and returns what a stream says about it. */
  add(item: NormalizedGrounding): GenerationEvent {
    if (this.#size === undefined) {
      this.unplacedBoxes.push(item)
      return { type: 'unplaced-box', box: item }
    }
    const box = scaleTo(item, this.#size)
    this.boxes.push(box)
    return { type: 'box', box }
  }
}
