import { describe, expect, it } from 'vitest'
import { gpuOf, gpus, isSimulator, tensorRate, type Gpu } from '../../../lib/bench/gpus.js'

/** As the driver of an H100 SXM describes it. */
const h100 = {
  ...{ name: 'NVIDIA H100 80GB HBM3', computeCapability: '9.0', memoryBytes: 85_017_755_648 },
  ...{ multiprocessors: 132, clockHz: 1.98e9, memoryClockHz: 2.619e9, memoryBusBits: 5120 },
  ...{ freeBytes: null, reason: '' },
}

describe('gpuOf()', () => {
  it('finds the peak of the memory: two transfers a clock over the whole bus', () => {
    expect(gpuOf(h100)).toMatchObject({ arch: 90, clock: 1.98e9, multiprocessors: 132 })
    expect(gpuOf(h100).bandwidth / 1e9).toBeCloseTo(3352, 0)
    expect(gpuOf({ ...h100, computeCapability: '12.1' }).arch).toBe(121)
  })

  it('knows no rates where the driver does not say, nor of a simulator', () => {
    expect(gpuOf({ ...h100, memoryClockHz: 0 }).bandwidth).toBe(0)
    const simulator = { ...h100, name: 'PTX simulator, compute_90' }
    expect(isSimulator(simulator)).toBe(true)
    expect(gpuOf(simulator)).toMatchObject({ bandwidth: 0, clock: 0 })
  })
})

describe('tensorRate()', () => {
  const gpu = (name: string, arch: number, multiprocessors: number, gigahertz: number): Gpu => ({
    ...{ name, arch, multiprocessors, clock: gigahertz * 1e9, bandwidth: 1, memoryBytes: 1 },
  })

  // Of data sheets, in TFLOP/s: dense, bf16, summed in fp32.
  it.each([
    [gpus.a100, 312],
    [gpus.h100, 989],
    [gpus.rtx4090, 165.2],
    [gpus.l4, 121],
    [gpu('NVIDIA A40', 86, 84, 1.74), 149.7],
    [gpu('NVIDIA GeForce RTX 3090', 86, 82, 1.695), 71],
    [gpu('NVIDIA L40S', 89, 142, 2.52), 362],
    [gpu('NVIDIA B200', 100, 148, 1.85), 2250],
    [gpu('NVIDIA GeForce RTX 5090', 120, 170, 2.407), 209.5],
    [gpu('NVIDIA RTX PRO 6000 Blackwell', 120, 188, 2.617), 503.8],
  ])('is that of the data sheet of $name', (one, teraflops) => {
    const rate = (tensorRate(one) ?? 0) / 1e12
    expect(Math.abs(rate - teraflops) / teraflops).toBeLessThan(0.02)
  })

  it('is not known of architectures that it has not heard of, nor without a clock', () => {
    expect(tensorRate(gpu('NVIDIA X', 190, 100, 2))).toBeUndefined()
    expect(tensorRate(gpu('NVIDIA A100', 80, 108, 0))).toBeUndefined()
  })
})
