// Which frames of a video are used and how large they become: the tables of the reference.
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import {
  frameCount,
  frameIndices,
  frameRange,
  frameSize,
  type SamplingOptions,
} from '../../../lib/processor/sampling.js'

const error = (code: string) => expect.objectContaining({ code }) as Error

describe('the number of frames', () => {
  const rows: [
    total: number,
    fps: number,
    options: SamplingOptions,
    early: number,
    later: number,
  ][] = [
    [300, 30, {}, 20, 20],
    [100, 25, {}, 8, 8],
    [30, 30, {}, 4, 4],
    [3, 30, {}, 2, 2],
    [5, 1, {}, 4, 4],
    [36000, 30, {}, 768, 768],
    [36000, 30, { nframes: 7 }, 8, 8],
    [36000, 30, { nframes: 5 }, 4, 4],
    [300, 30, { maxFrames: 7 }, 6, 6],
    [300, 30, { fps: 1, minFrames: 15 }, 16, 16],
    [300, 30, { fps: 4.15 }, 42, 40],
    [250, 25, { fps: 1.1 }, 12, 10],
  ]
  it.each(rows)('%i frames at %f fps with %o', (total, fps, options, early, later) => {
    expect(frameCount(total, fps, options)).toBe(early)
    expect(frameCount(total, fps, options, 'utils-later')).toBe(later)
  })

  it.each(['utils-0.0.8', 'utils-later'] as const)('refuses one frame (%s)', (profile) => {
    expect(() => frameCount(1, 30, {}, profile)).toThrow(error('ERR_VIDEO_TOO_SHORT'))
    expect(() => frameCount(1, 30, {}, profile)).toThrow('Send a single picture as an image.')
  })

  it('refuses more frames than there are, and fps beside nframes', () => {
    expect(() => frameCount(10, 30, { nframes: 12 })).toThrow(error('ERR_VIDEO_TOO_SHORT'))
    expect(() => frameCount(10, 30, { minFrames: 12, maxFrames: 20 })).toThrow(
      '12 frames would be taken of the 10 there are',
    )
    expect(() => frameCount(100, 30, { nframes: 4, fps: 1 })).toThrow(error('ERR_INVALID_ARGUMENT'))
  })
})

describe('which frames', () => {
  it.each([
    [5, 4, [0, 1, 3, 4]],
    [9, 4, [0, 3, 5, 8]],
    [10, 4, [0, 3, 6, 9]],
    [100, 8, [0, 14, 28, 42, 57, 71, 85, 99]],
    [
      300,
      20,
      [0, 16, 31, 47, 63, 79, 94, 110, 126, 142, 157, 173, 189, 205, 220, 236, 252, 268, 283, 299],
    ],
  ])('%i frames to %i', (total, count, expected) => {
    expect(frameIndices({ first: 0, last: total - 1 }, count)).toEqual(expected)
  })

  it('20 minutes', () => {
    const indices = frameIndices({ first: 0, last: 35999 }, 768)
    expect(indices.slice(0, 10)).toEqual([0, 47, 94, 141, 188, 235, 282, 329, 375, 422])
    expect(indices.at(-1)).toBe(35999)
  })

  it('equals what torch.linspace gave, in 407 recorded cases', () => {
    const file = new URL('../../golden/video/indices.txt', import.meta.url)
    const lines = readFileSync(file, 'utf8').trim().split('\n').slice(1)
    expect(lines).toHaveLength(407)
    for (const line of lines) {
      const [first = 0, last = 0, count = 0, sum, weighted] = line.split(' ').map(Number)
      const indices = frameIndices({ first, last }, count)
      const found = [
        indices.reduce((total, index) => total + index, 0),
        indices.reduce((total, index, i) => (total + index * (i + 1)) % 2 ** 32, 0),
      ]
      expect(found, line).toEqual([sum, weighted])
    }
  })
})

describe('videoStart and videoEnd', () => {
  it.each([
    [{}, 0, 299],
    [{ videoStart: 1 }, 30, 299],
    [{ videoStart: 1.01, videoEnd: 2.99 }, 31, 89],
    [{ videoEnd: 4 }, 0, 120],
    [{ videoEnd: 1000 }, 0, 299],
  ])('%o', (options, first, last) => {
    expect(frameRange(300, 30, options)).toEqual({ first, last })
  })

  it('refuses a range without frames', () => {
    expect(() => frameRange(300, 30, { videoStart: 10 })).toThrow(error('ERR_VIDEO_RANGE'))
    expect(() => frameRange(300, 30, { videoStart: 5, videoEnd: 5 })).toThrow('Widen the range')
  })
})

describe('the size of a frame', () => {
  const fullHd = { width: 1920, height: 1080 }

  it.each([
    [4, 560, 1008, 1440, 560, 1008, 1440],
    [64, 560, 1008, 23040, 560, 1008, 23040],
    [66, 560, 1008, 23760, 560, 1008, 23760],
    [128, 392, 728, 23296, 560, 1008, 46080],
    [240, 280, 532, 22800, 560, 1008, 86400],
    [384, 224, 420, 23040, 504, 896, 110592],
    [600, 224, 420, 36000, 392, 728, 109200],
    [768, 224, 420, 46080, 336, 644, 105984],
  ])('1080p, %i frames', (count, height, width, tokens, laterHeight, laterWidth, laterTokens) => {
    const tokensOf = (size: { width: number; height: number }) =>
      ((count / 2) * (size.width / 14) * (size.height / 14)) / 4
    const size = frameSize(fullHd, count, {})
    expect(size).toEqual({ width, height })
    expect(tokensOf(size)).toBe(tokens)
    const later = frameSize(fullHd, count, {}, 'utils-later')
    expect(later).toEqual({ width: laterWidth, height: laterHeight })
    expect(tokensOf(later)).toBe(laterTokens)
  })

  it('the limits of the item', () => {
    const readme = { maxPixels: 360 * 420 }
    expect(frameSize(fullHd, 20, readme)).toEqual({ width: 504, height: 280 })
    expect(frameSize({ width: 1280, height: 720 }, 20, readme)).toEqual({ width: 504, height: 280 })
    // Below the floor of the budget: the early rule obeys the caller, the later one the budget.
    expect(frameSize(fullHd, 768, { maxPixels: 300_000 }).width).toBe(728)
    expect(frameSize(fullHd, 768, { maxPixels: 300_000 }, 'utils-later').width).toBe(644)
    expect(frameSize(fullHd, 768, { minPixels: 28 * 28, totalPixels: 9_633_792 })).toEqual({
      width: 196,
      height: 112,
    })
    expect(
      frameSize(fullHd, 768, { resizedHeight: 280, resizedWidth: 420, minPixels: 1e6 }),
    ).toEqual({ width: 420, height: 280 })
  })
})
