import { describe, expect, test } from 'vitest'
import { decodeStep, formats, models, predict } from '../../lib/bench/decode-model.js'
import { gpus } from '../../lib/bench/gpus.js'
import {
  countersOf,
  parseLaunches,
  parseRepresentatives,
  pickLaunches,
} from '../../scripts/kernel-report/counters.js'
import type { Launch } from '../../scripts/kernel-report/counters.js'
import { writeDocument } from '../../scripts/kernel-report/document.js'
import { parsePtxas } from '../../scripts/kernel-report/ptxas.js'
import {
  applyWaivers,
  checkCounters,
  checkOccupancy,
} from '../../scripts/kernel-report/thresholds.js'
import type { Occupancy } from '../../scripts/kernel-report/thresholds.js'

const log = `ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'gemv_int4_logits_g32_bf16' for 'sm_80'
ptxas info    : Function properties for gemv_int4_logits_g32_bf16
    16 bytes stack frame, 20 bytes spill stores, 24 bytes spill loads
ptxas info    : Used 80 registers, used 1 barriers, 16 bytes cumulative stack size, 472 bytes cmem[0]
ptxas info    : Compile time = 12.000 ms
ptxas info    : Compiling entry function 'sample' for 'sm_120a'
ptxas info    : Function properties for sample
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 1024 bytes smem
`

const launch: Launch = {
  kernel: 'gemv_int4_logits_g32_bf16',
  grid: [4, 1, 2],
  block: [32, 8, 1],
  shared_bytes: 2048,
  instructions: 4000,
  global: { requests: 10, bytes: 3000, sectors: 110, ideal: 100, touched_bytes: 3200 },
  shared: { requests: 10, bytes: 1000, cycles: 30, ideal: 20 },
  sites: [
    {
      at: 'a.cuh:1 (ld.global.nc.L1::no_allocate.v4.u32)',
      space: 'global',
      requests: 8,
      bytes: 2900,
      sectors: 96,
      ideal: 96,
    },
    { at: 'a.cuh:2', space: 'global', requests: 2, bytes: 100, sectors: 14, ideal: 4 },
    { at: 'a.cuh:3', space: 'shared', requests: 9, bytes: 900, cycles: 10, ideal: 10 },
    { at: 'a.cuh:4', space: 'shared', requests: 1, bytes: 100, cycles: 20, ideal: 10 },
  ],
}

const kernel: Occupancy = {
  ...{ kernel: 'gemv_swiglu_bf16', arch: 80, registers: 64, stack: 0 },
  ...{ spillStores: 0, spillLoads: 0, staticShared: 0 },
  ...{ threads: 256, sharedBytes: 0, blocks: 3, warps: 24, limitedBy: 'registers' },
}

describe('what ptxas says', () => {
  test('is read for every kernel and architecture', () => {
    expect(parsePtxas(log)).toEqual([
      {
        ...{ kernel: 'gemv_int4_logits_g32_bf16', arch: 80, registers: 80, stack: 16 },
        ...{ spillStores: 20, spillLoads: 24, staticShared: 0 },
      },
      {
        ...{ kernel: 'sample', arch: 120, registers: 32, stack: 0 },
        ...{ spillStores: 0, spillLoads: 0, staticShared: 1024 },
      },
    ])
  })

  test('is not guessed where it looks different', () => {
    expect(() => parsePtxas(log.replace('Used 80 registers', 'Uses registers'))).toThrow(
      /something unexpected/,
    )
  })
})

describe('what the simulator counts', () => {
  test('becomes ratios: of all accesses, and of those that matter most', () => {
    const counters = countersOf(launch)
    expect(counters).toMatchObject({ grid: 8, threads: 256, sharedBytes: 2048 })
    expect(counters.sectorRatio).toBeCloseTo(1.1)
    expect(counters.mainSectorRatio).toBe(1)
    expect(counters.bankRatio).toBeCloseTo(1.5)
    expect(counters.mainBankRatio).toBe(2)
  })

  test('is taken from a representative launch, or else from the largest', () => {
    const small = { ...launch, instructions: 10, shared_bytes: 1 }
    const other = { ...small, kernel: 'convert_bf16' }
    const lines = [small, launch, other, { ...other, instructions: 20, shared_bytes: 7 }]
    const launches = parseLaunches(lines.map((line) => `${JSON.stringify(line)}\n`).join(''))
    const known = parseRepresentatives('gemv_int4_logits_g32_bf16 1000 3072 64\n')
    const [convert, gemv] = pickLaunches(launches, known, [{ ...launch, shared_bytes: 5 }])
    expect(convert).toMatchObject({ kernel: 'convert_bf16', sharedBytes: 7 })
    expect(convert?.instructionsPerNumber).toBeUndefined()
    expect(gemv).toMatchObject({ sharedBytes: 5, instructionsPerNumber: 4, bytesAhead: 64 })
    // The instruction that loads past L1, and no other.
    expect(gemv?.readPerByte).toBe((96 * 32) / 3072)
  })
})

describe('limits', () => {
  const counters = {
    ...countersOf(launch),
    ...{ bytesAhead: 64, instructionsPerNumber: 4, readPerByte: 1.1 },
  }

  test('of resources depend on the architecture', () => {
    expect(checkOccupancy(kernel, counters)).toEqual([])
    const few = { ...kernel, warps: 16, blocks: 2 }
    expect(checkOccupancy({ ...few, arch: 89 }, counters)).toEqual([])
    expect(checkOccupancy(few, counters)).toEqual([
      { kernel: 'gemv_swiglu_bf16', arch: 80, metric: 'warps', value: 16, limit: 24 },
    ])
    const metrics = checkOccupancy(
      { ...few, arch: 90, warps: 8, stack: 8, spillLoads: 4 },
      counters,
    )
    expect(metrics.map(({ metric }) => metric)).toEqual([
      'spilled bytes',
      'stack bytes',
      'warps',
      'bytes in flight',
    ])
  })

  test('of counts hold for the inner loop and for all', () => {
    const metrics = checkCounters({ ...counters, instructionsPerNumber: 4.5 })
    expect(metrics.map(({ metric }) => metric)).toEqual([
      'bank cycles',
      'bank cycles of the inner loop',
      'bytes read for each there is',
      'instructions a weight',
    ])
    expect(
      checkCounters({
        ...counters,
        kernel: 'gemv_swiglu_bf16',
        bankRatio: 1,
        mainBankRatio: 1,
        readPerByte: 1,
      }),
    ).toEqual([])
  })

  test('are waived by name with a reason, as long as there is something to waive', () => {
    const violations = checkCounters(counters)
    const waiver = { kernel: 'gemv_int4_*', metric: 'bank cycles', reason: 'a merge at the end' }
    const [first, second] = applyWaivers(violations, [waiver])
    expect(first?.waived).toBe('a merge at the end')
    expect(second?.waived).toBeUndefined()
    expect(() => applyWaivers(violations, [{ ...waiver, kernel: 'norm' }])).toThrow(/remove it/)
  })
})

describe('the model', () => {
  const [two, seven, seventyTwo] = models
  const { a100, h100, l4 } = gpus
  const none = (): undefined => undefined

  test('counts the bytes of a step', () => {
    // Layers of 7B: 233 M weights; head 545 M; 2 x 4 x 128 x 2048 numbers of keys and values.
    const works = decodeStep(seven!, formats.bf16)
    const ofLayers = works.filter(({ times }) => times === 28)
    expect(ofLayers.map(({ bytes }) => bytes / 1e6)).toEqual([
      expect.closeTo(33.03, 1),
      expect.closeTo(4.19, 1),
      expect.closeTo(25.69, 1),
      expect.closeTo(271.58, 1),
      expect.closeTo(135.79, 1),
    ])
    expect(predict(seven!, 'bf16', a100, none).gigabytes).toBeCloseTo(14.3, 1)
    expect(formats.int4.bits).toBe(4.1875)
  })

  test('gives the floor, and what gaps and 92 % of peak leave of it', () => {
    const slow = predict(seven!, 'bf16', l4, none)
    expect(slow.floor).toBeCloseTo(47.5, 0)
    expect(slow.shareOfPeak).toBeGreaterThan(0.91)
    const fast = predict(two!, 'bf16', a100, none)
    expect(fast.floor).toBeCloseTo(1.54, 1)
    expect(fast.shareOfPeak).toBeCloseTo(0.83, 1)
    expect(predict(two!, 'int4', h100, none).shareOfPeak).toBeLessThan(
      predict(seven!, 'int4', h100, none).shareOfPeak,
    )
  })

  test('lets instructions limit a kernel that has too many of them', () => {
    const light = predict(seven!, 'int4', h100, () => 2)
    const heavy = predict(seven!, 'int4', h100, () => 12)
    expect(light.instructionBound).toEqual([])
    expect(heavy.instructionBound).toContain('gate+up')
    expect(heavy.milliseconds).toBeGreaterThan(light.milliseconds)
  })

  test('knows what fits', () => {
    expect(predict(seventyTwo!, 'bf16', h100, none).fits).toBe(false)
    expect(predict(seventyTwo!, 'int4', h100, none).fits).toBe(true)
  })
})

test('the document has every kernel, merged where both types agree, and what is not excused', () => {
  const other = { ...kernel, kernel: 'gemv_swiglu_fp16' }
  const counters = { ...countersOf(launch), kernel: 'gemv_swiglu_bf16' }
  const text = writeDocument({
    toolkit: 'nvcc 13',
    fatbins: { gemv: 1234 },
    kernels: [kernel, other],
    counters: [counters, { ...counters, kernel: 'gemv_swiglu_fp16', bankRatio: 1 }],
    predictions: [predict(models[0]!, 'bf16', gpus.a100, () => 5)],
    violations: [
      { kernel: 'a', arch: 80, metric: 'warps', value: 8, limit: 16 },
      { kernel: 'a', arch: 90, metric: 'warps', value: 8, limit: 16 },
    ],
  })
  expect(text).toContain('| `gemv_swiglu_*` | 256 | 0 | 64 · 24 |')
  expect(text).toContain('| `gemv_swiglu_fp16` | 1.10 | 1 |')
  expect(text).toContain('| `a` | 80, 90 | warps | 8 | 16 | **not excused** |')
  expect(text).toContain('| 2B bf16 | 3.15 |')
  expect(text).toContain('| gemv | 1234 |')
})
