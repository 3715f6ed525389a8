import { describe, expect, it } from 'vitest'
import { arithmeticLimit, median, toLimit, toRow, type Limit } from '../../../lib/bench/report.js'

// The bandwidth of the whole run is another than that of a row's own time.
const limit = (name: string, median: number): Limit => ({ name, best: 1e12, median, runs: 1 })
const limits = [
  limit('read', 50e9),
  limit('fp32 sse42', 100e9),
  limit('fp32 avx2', 250e9),
  limit('fp32 avx512', 500e9),
  limit('int8 avx2', 500e9),
  limit('int8 avx512_vnni', 2000e9),
]

describe('toLimit()', () => {
  it('keeps the best and the median of what was measured', () => {
    expect(toLimit('read', [3, 1, 2, 10])).toEqual({ name: 'read', best: 10, median: 2.5, runs: 4 })
  })
})

describe('arithmeticLimit()', () => {
  it.each([
    ['fp32', 'avx2', 'fp32 avx2'],
    ['fp32', 'avx512', 'fp32 avx512'],
    ['fp32', 'avx512_vnni', 'fp32 avx512'],
    ['fp32', 'avx_vnni', 'fp32 avx2'],
    ['int8', 'avx2', 'int8 avx2'],
    ['int8', 'avx512_vnni', 'int8 avx512_vnni'],
    ['fp32', 'scalar', 'fp32 sse42'],
  ] as const)('bounds %s of %s kernels by %s', (arithmetic, instructionSet, expected) => {
    expect(arithmeticLimit(arithmetic, limits, instructionSet)?.name).toBe(expected)
  })
})

describe('rows of a GPU', () => {
  const ofGpu = [limit('memory', 2e12), limit('copy', 1.7e12), limit('16-bit sm_80', 300e12)]
  const between = [
    { name: 'memory', rates: [2e12] },
    { name: 'copy', rates: [1.7e12] },
  ]
  const row = (work: { bytes: number; fp32: number }, seconds: number, isOfHost?: true) => {
    const measured = { section: 'model', name: 'a', unit: 's', work: { ...work, int8: 0 } } as const
    const timed = { seconds: [seconds], limits: between }
    return toRow({ ...measured, timed, ...(isOfHost && { isOfHost }) }, ofGpu, 'sm_80')
  }

  it('stand beside the peak of its memory, not beside copies', () => {
    const { limit, limitRate, fraction } = row({ bytes: 4e9, fp32: 4e9 }, 0.004)
    expect({ limit, limitRate, fraction }).toEqual({
      ...{ limit: 'memory', limitRate: 2e12, fraction: 0.5 },
    })
  })

  it('or beside its tensor cores', () => {
    const { limit, fraction } = row({ bytes: 4e9, fp32: 6e12 }, 0.1)
    expect(limit).toBe('16-bit sm_80')
    expect(fraction).toBeCloseTo(0.2, 9)
  })

  it('of the host stand alone', () => {
    expect(row({ bytes: 4e9, fp32: 0 }, 1, true)).not.toHaveProperty('fraction')
  })

  it('say what the kernels’ model gives, in their own unit', () => {
    const timed = { seconds: [0.01], limits: between }
    const measured = { section: 'model', name: 'decode', timed, modelled: 0.008 } as const
    const decode = { ...measured, unit: 'tokens/s', amount: 1 } as const
    expect(toRow(decode, ofGpu, 'sm_80')).toMatchObject({ best: 100, modelled: 125 })
  })
})

describe('toRow()', () => {
  const between = [{ name: 'read', rates: [25e9, 50e9] }]

  it('compares a product of one row with the bandwidth', () => {
    const work = { bytes: 50e6, fp32: 50e6, int8: 0 }
    const timed = { seconds: [0.004, 0.002, 0.0025], limits: between }
    const measured = { section: 'kernels', name: 'GEMV', timed, work } as const
    expect(toRow({ ...measured, unit: 'GB/s', amount: work.bytes }, limits, 'avx512')).toEqual({
      ...{ section: 'kernels', name: 'GEMV', unit: 'GB/s', best: 25, median: 20, runs: 3 },
      ...{ limit: 'read', limitRate: 50e9, fraction: 0.5, work },
    })
  })

  it('compares a product of many rows with the arithmetic of the kernels’ instruction set', () => {
    const work = { bytes: 50e6, fp32: 25e9, int8: 0 }
    const timed = { seconds: [0.2], limits: between }
    const measured = { section: 'kernels', name: 'GEMM', timed, work } as const
    const row = (set: string) =>
      toRow({ ...measured, unit: 'GFLOP/s', amount: work.fp32 }, limits, set)
    expect(row('avx2')).toMatchObject({ best: 125, limit: 'fp32 avx2', fraction: 0.5 })
    expect(row('avx512')).toMatchObject({ best: 125, limit: 'fp32 avx512', fraction: 0.25 })
  })

  it('adds up the times of fp32 and of 8-bit integers', () => {
    const work = { bytes: 0, fp32: 50e9, int8: 400e9 } // 0.1 s and 0.2 s
    const timed = { seconds: [0.6], limits: between }
    const measured = { section: 'model', name: 'prefill', timed, work, unit: 's' } as const
    expect(toRow(measured, limits, 'avx512_vnni')).toMatchObject({
      limit: 'int8 avx512_vnni',
      fraction: expect.closeTo(0.5) as number,
    })
  })

  it('gives times as they are', () => {
    const timed = { seconds: [0.5, 0.25], limits: between }
    const measured = { section: 'model', name: 'image', timed } as const
    expect(toRow({ ...measured, unit: 'ms' }, limits, 'avx2')).toEqual({
      ...{ section: 'model', name: 'image', unit: 'ms', best: 250, median: 375, runs: 2 },
    })
    expect(toRow({ ...measured, unit: 's' }, limits, 'avx2').best).toBe(0.25)
  })

  it('gives a figure that no time belongs to', () => {
    const measured = { section: 'model', name: 'memory', value: 5, unit: 'GB' } as const
    expect(toRow({ ...measured, fraction: 0.9, limit: 'weights' }, limits, 'avx2')).toEqual({
      ...{ section: 'model', name: 'memory', unit: 'GB', best: 5, median: 5, runs: 1 },
      ...{ fraction: 0.9, limit: 'weights' },
    })
  })
})

describe('median()', () => {
  it('is the middle one, or the mean of the middle two', () => {
    expect(median([3, 1, 2])).toBe(2)
    expect(median([4, 1, 2, 3])).toBe(2.5)
    expect(median([])).toBeNaN()
  })
})
