import { describe, expect, it } from 'vitest'
import {
  DEFAULT_MAX_PIXELS,
  DEFAULT_MIN_PIXELS,
  roundHalfToEven,
  smartResize,
  type ResizeVariant,
} from '../../../lib/processor/smart-resize.js'

const published = { minPixels: DEFAULT_MIN_PIXELS, maxPixels: DEFAULT_MAX_PIXELS }

/** Sizes are written height x width here, as the reference's tables have them. */
function resize(
  [height, width]: readonly [number, number],
  variant: ResizeVariant,
  limits = published,
): [number, number] {
  const size = smartResize({ width, height }, limits, variant)
  return [size.height, size.width]
}

describe('smartResize', () => {
  it('has the published limits as default: 4 and 16384 tokens', () => {
    expect(published).toEqual({ minPixels: 3136, maxPixels: 12845056 })
  })

  it.each([
    [
      [1, 1],
      [56, 56],
    ],
    [
      [28, 28],
      [56, 56],
    ],
    [
      [27, 29],
      [56, 84],
    ],
    [
      [42, 42],
      [56, 56],
    ],
    [
      [43, 42],
      [56, 56],
    ],
    [
      [70, 98],
      [56, 112],
    ],
    [
      [100, 100],
      [112, 112],
    ],
    [
      [224, 224],
      [224, 224],
    ],
    [
      [480, 640],
      [476, 644],
    ],
    [
      [720, 1280],
      [728, 1288],
    ],
    [
      [768, 1024],
      [756, 1036],
    ],
    [
      [1080, 1920],
      [1092, 1932],
    ],
    [
      [1365, 2048],
      [1372, 2044],
    ],
    [
      [2160, 3840],
      [2156, 3836],
    ],
    [
      [4096, 4096],
      [3584, 3584],
    ],
    [
      [10000, 10000],
      [3556, 3556],
    ],
    [
      [28, 5600],
      [28, 5600],
    ],
  ] as const)('gives %j -> %j in both variants', (from, to) => {
    expect(resize(from, 'processor')).toEqual(to)
    expect(resize(from, 'utils')).toEqual(to)
  })

  it.each([
    [
      [10, 1900],
      [28, 784],
      [28, 1904],
    ],
    [
      [5, 1000],
      [28, 812],
      [28, 1008],
    ],
    [
      [3, 600],
      [28, 812],
      [28, 588],
    ],
    [
      [14, 2800],
      [28, 812],
      [28, 2800],
    ],
    [
      [1, 200],
      [28, 812],
      [28, 196],
    ],
  ] as const)('gives thin %j -> %j in the processor, %j in qwen-vl-utils', (from, hf, utils) => {
    expect(resize(from, 'processor')).toEqual(hf)
    expect(resize(from, 'utils')).toEqual(utils)
  })

  it.each([
    [3136, 1003520, [1080, 1920], [728, 1316]],
    [3136, 1003520, [2160, 3840], [728, 1316]],
    [3136, 1003520, [1000, 1003], [980, 980]],
    [3136, 1003520, [1008, 995], [1008, 980]],
    [200704, 1003520, [100, 100], [448, 448]],
    [200704, 1003520, [30, 3000], [56, 4480]],
    [50176, 50176, [1365, 2048], [168, 252]],
    [50176, 50176, [300, 200], [252, 168]],
  ] as const)('within %i to %i pixels gives %j -> %j', (minPixels, maxPixels, from, to) => {
    expect(resize(from, 'processor', { minPixels, maxPixels })).toEqual(to)
    expect(resize(from, 'utils', { minPixels, maxPixels })).toEqual(to)
  })

  it.each([
    [
      [1000, 10],
      [280, 28],
    ],
    [
      [28, 3000],
      [28, 560],
    ],
  ] as const)('refuses %j where the rule of qwen-vl-utils gives a side of 0', (from, hf) => {
    const small = { minPixels: 784, maxPixels: 3136 }
    expect(resize(from, 'processor', small)).toEqual(hf)
    expect(() => resize(from, 'utils', small)).toThrow(/cannot be brought under 3136 pixels/)
  })

  it.each(['utils', 'processor'] as const)('accepts a ratio of 200 and no more (%s)', (variant) => {
    expect(resize([28, 5600], variant)).toEqual([28, 5600])
    expect(() => resize([28, 5601], variant)).toThrow(
      expect.objectContaining({ code: 'ERR_ASPECT_RATIO', details: { width: 5601, height: 28 } }),
    )
  })

  it.each([
    [
      [300, 410],
      [308, 420],
    ],
    [
      [280, 420],
      [280, 420],
    ],
    [
      [20, 20],
      [56, 56],
    ],
  ] as const)('brings a requested size of %j to %j', (from, to) => {
    expect(resize(from, 'utils')).toEqual(to)
  })
})

describe('roundHalfToEven', () => {
  it.each([
    [0.5, 0],
    [1.5, 2],
    [2.5, 2],
    [3.5, 4],
    [0.49999999999999994, 0],
    [2.4999999, 2],
    [2.5000001, 3],
    [7, 7],
  ])('rounds %d to %d', (value, rounded) => {
    expect(roundHalfToEven(value)).toBe(rounded)
  })
})
