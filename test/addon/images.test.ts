import { describe, expect, it } from 'vitest'
import type { NativeRawPixels } from '../../lib/native.js'
import { addon } from './tiny.js'

const mean: [number, number, number] = [0.5, 0.5, 0.5]
const std: [number, number, number] = [0.5, 0.5, 0.5]

/** A picture of one colour. */
function flat(width: number, height: number, colour: number[]): NativeRawPixels {
  return {
    data: Uint8Array.from(
      { length: width * height * colour.length },
      (_, i) => colour[i % colour.length]!,
    ),
    width,
    height,
    channels: colour.length as NativeRawPixels['channels'],
    cmyk: false,
  }
}

describe('prepareImage', () => {
  it('resizes once for each size', async () => {
    const image = await addon.prepareImage(flat(10, 7, [10, 20, 30]), 'composite', [
      { width: 40, height: 40 },
      { width: 56, height: 28 },
    ])
    expect([image.width, image.height]).toEqual([56, 28])
    const rgb = image.toRgb()
    expect(rgb).toHaveLength(56 * 28 * 3)
    expect([...rgb.subarray(-3)]).toEqual([10, 20, 30])
  })

  it('gives the picture as it is without sizes', async () => {
    const image = await addon.prepareImage(flat(3, 2, [1, 2, 3]), 'composite', [])
    expect([...image.toRgb()]).toEqual(Array.from({ length: 6 }, () => [1, 2, 3]).flat())
  })

  it('takes alpha as it is told', async () => {
    const transparent = flat(1, 1, [100, 100, 100, 0])
    expect([...(await addon.prepareImage(transparent, 'composite', [])).toRgb()]).toEqual([
      255, 255, 255,
    ])
    expect([...(await addon.prepareImage(transparent, 'drop', [])).toRgb()]).toEqual([
      100, 100, 100,
    ])
  })

  it('works on a view into a larger buffer', async () => {
    const buffer = new Uint8Array(32).fill(9)
    buffer.set([1, 2, 3], 5)
    const pixels = { ...flat(1, 1, [0, 0, 0]), data: buffer.subarray(5, 8) }
    expect([...(await addon.prepareImage(pixels, 'drop', [])).toRgb()]).toEqual([1, 2, 3])
  })

  it('does many at once', async () => {
    const images = await Promise.all(
      Array.from({ length: 32 }, (_, i) =>
        addon.prepareImage(flat(64, 64, [i, i, i]), 'drop', [{ width: 28, height: 28 }]),
      ),
    )
    expect(images.map((image) => image.toRgb()[0])).toEqual(Array.from({ length: 32 }, (_, i) => i))
  })

  it('rejects pixels that do not fill the picture', async () => {
    const pixels = { ...flat(4, 4, [1, 2, 3]), width: 5 }
    await expect(addon.prepareImage(pixels, 'drop', [])).rejects.toMatchObject({
      code: 'ERR_IMAGE_PIXELS',
    })
  })

  it.each<[string, object]>([
    ['data of another type', { data: [1, 2, 3] }],
    ['16-bit data', { data: new Uint16Array(48) }],
    ['no width', { width: 0 }],
    ['an absurd height', { height: 2 ** 31 }],
    ['five channels', { channels: 5 }],
    ['a flag of another type', { cmyk: 1 }],
  ])('refuses %s', (_, changes) => {
    const pixels = { ...flat(4, 4, [1, 2, 3]), ...changes }
    expect(() => addon.prepareImage(pixels, 'drop', [])).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }),
    )
  })

  it('refuses an unknown rule for alpha and sizes that are none', () => {
    const pixels = flat(4, 4, [1, 2, 3])
    expect(() => addon.prepareImage(pixels, 'keep' as never, [])).toThrow(/composite/)
    expect(() => addon.prepareImage(pixels, 'drop', [{ width: 0, height: 1 }])).toThrow(/width/)
  })
})

describe('extractPatches', () => {
  it('gives the rows of one image', async () => {
    const image = await addon.prepareImage(flat(28, 56, [0, 255, 0]), 'drop', [])
    const patches = await addon.extractPatches(
      { frames: [image], isVideo: false },
      mean,
      std,
      1 / 255,
    )
    expect(patches).toHaveLength(2 * 4 * 1176)
    // Columns: channel, time, y, x. Red is -1, green 1, blue -1.
    const perChannel = 1176 / 3
    for (const channel of [0, 1, 2]) {
      expect(patches[channel * perChannel]).toBeCloseTo(channel === 1 ? 1 : -1, 6)
    }
  })

  it('refuses frames of different sizes, and sides that are no multiples of 28', async () => {
    const [a, b, c] = await Promise.all(
      [28, 56, 30].map((side) => addon.prepareImage(flat(side, 28, [1, 1, 1]), 'drop', [])),
    )
    const extract = (frames: unknown[]) => () =>
      addon.extractPatches({ frames: frames as never, isVideo: true }, mean, std, 1 / 255)
    expect(extract([a, b])).toThrow(/one size/)
    expect(extract([c])).toThrow(/multiples of 28/)
    expect(extract([])).toThrow(/at least one/)
  })
})

describe('computePositions', () => {
  it('continues behind an image at its largest position', () => {
    // Two texts around an image of 2 x 3 merged patches.
    const ids = Int32Array.of(5, 6, ...Array.from({ length: 6 }, () => 9), 7)
    const grid = { t: 1, h: 4, w: 6, isVideo: false }
    const { positions, delta } = addon.computePositions(ids, [grid], 9, 10)
    const row = (axis: number) => [...positions.subarray(axis * 9, axis * 9 + 9)]
    expect(row(0)).toEqual([0, 1, 2, 2, 2, 2, 2, 2, 5])
    expect(row(1)).toEqual([0, 1, 2, 2, 2, 3, 3, 3, 5])
    expect(row(2)).toEqual([0, 1, 2, 3, 4, 2, 3, 4, 5])
    expect(delta).toBe(6 - 9)
  })

  it('refuses pads without an image', () => {
    expect(() => addon.computePositions(Int32Array.of(9), [], 9, 10)).toThrow(
      expect.objectContaining({ code: 'ERR_PROMPT_VISION_MISMATCH' }),
    )
  })
})
