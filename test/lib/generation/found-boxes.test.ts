import { describe, expect, it } from 'vitest'
import { commonSize, FoundBoxes } from '../../../lib/generation/found-boxes.js'
import type { NormalizedGrounding } from '../../../lib/grounding/geometry.js'

describe('commonSize', () => {
  const size = { width: 4, height: 3 }

  it.each([
    ['no picture', [], undefined],
    ['one', [{ ...size, tokens: 1 }], size],
    ['two of one size', [{ ...size, tokens: 1 }, size], size],
    ['two of different heights', [size, { width: 4, height: 4 }], undefined],
    ['a third of another width', [size, size, { width: 3, height: 3 }], undefined],
  ])('of %s', (_, pictures, common) => expect(commonSize(pictures)).toEqual(common))
})

describe('FoundBoxes', () => {
  const item: NormalizedGrounding = { kind: 'point', label: 'a', normalized: { x: 500, y: 250 } }

  it('gives pixels where the size is known', () => {
    const found = new FoundBoxes({ width: 10, height: 20 })
    const box = { ...item, x: 5, y: 5 }
    expect(found.add(item)).toEqual({ type: 'box', box })
    expect(found).toMatchObject({ boxes: [box], unplacedBoxes: [] })
  })

  it('keeps what it cannot place', () => {
    const found = new FoundBoxes(undefined)
    expect(found.add(item)).toEqual({ type: 'unplaced-box', box: item })
    expect(found).toMatchObject({ boxes: [], unplacedBoxes: [item] })
  })
})
