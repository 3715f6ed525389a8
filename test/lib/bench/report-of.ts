import type { Report, Row } from '../../../lib/bench/report.js'

/** A report of an imaginary machine with some rows. */
export function reportOf(rows: Row[]): Report {
  return {
    ...{ package: '1.2.3', node: 'v20.9.0', processor: 'Abacus <9>', instructionSet: 'avx2' },
    threads: 2,
    model: {
      ...{ folder: '/models/a', parameters: 2.2e9, weightBytes: 4.42e9, dtype: 'bf16' },
      ...{ quantization: 'int4', visionQuantization: 'none', activations: 'int8' },
    },
    limits: [
      { name: 'read', best: 80e9, median: 50e9, runs: 5 },
      { name: 'fp32 avx2', best: 255e9, median: 250e9, runs: 5 },
      { name: 'fp32 avx512', best: 500e9, median: 500e9, runs: 5 },
      { name: 'int8 avx2', best: 510e9, median: 500e9, runs: 5 },
    ],
    rows,
  }
}

/** A kernel that reaches half of its limit, with `intensity` operations a byte. */
export function kernelRow(name: string, intensity: number): Row {
  const rate = Math.min(50e9 * intensity, 250e9) / 2
  const work = { bytes: 1e6, fp32: 1e6 * intensity, int8: 0 }
  const best = rate / 1e9
  return {
    ...{ section: 'kernels', name, unit: 'GFLOP/s', best, median: best, runs: 3, work },
    ...{ limit: intensity < 5 ? 'read' : 'fp32 avx2', limitRate: rate * 2, fraction: 0.5 },
  }
}
