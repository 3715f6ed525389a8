import { expect, it } from 'vitest'
import { formatTable } from '../../../lib/bench/table.js'
import { kernelRow, reportOf } from './report-of.js'

it('puts every figure beside its unit and its share of the limit', () => {
  const report = reportOf([
    kernelRow('GEMV 1×8', 1),
    { section: 'model', name: 'load', unit: 's', best: 0.0514, median: 1.5, runs: 2 },
    {
      ...{ section: 'model', name: 'peak memory', unit: 'GB', best: 4.9, median: 4.9, runs: 1 },
      ...{ fraction: 0.902, limit: 'weights' },
    },
  ])
  expect(formatTable(report)).toBe(
    `Abacus <9>, avx2 kernels, 2 threads; qwen2-vl 1.2.3, Node.js v20.9.0
/models/a: 2200 M parameters in 4.42 GB (bf16, decoder int4, int8 activations)

The machine  best  median
read         80.0    50.0  GB/s
fp32 avx2     255     250  GFLOP/s
fp32 avx512   500     500  GFLOP/s
int8 avx2     510     500  Gop/s

Kernels alone  best  median
GEMV 1×8       25.0    25.0  GFLOP/s  50 % of read (50.0)

The model      best  median
load         0.0514    1.50  s
peak memory    4.90    4.90  GB  90 % of weights
`,
  )
})

it('of a GPU: its limits, and what the kernels’ model gives', () => {
  const row = { section: 'model', name: 'decode', unit: 'tokens/s', best: 90, median: 88 } as const
  const text = formatTable({
    ...reportOf([{ ...row, runs: 3, fraction: 0.8, limit: 'memory', modelled: 100 }]),
    limits: [
      { name: 'memory', best: 2e12, median: 2e12, runs: 5 },
      { name: '16-bit sm_80', best: 312e12, median: 312e12, runs: 5 },
    ],
  })
  expect(text).toMatch(/^memory +2000 +2000 +GB\/s$/m)
  expect(text).toMatch(/^16-bit sm_80 +312000 +312000 +GFLOP\/s$/m)
  expect(text).toMatch(/80 % of memory; 90 % of the model's 100$/m)
  expect(text).not.toContain('simulated')
})

it('of a simulated GPU: that its times say nothing, and no limits', () => {
  const text = formatTable({ ...reportOf([]), limits: [], isSimulated: true })
  expect(text).toContain('The GPU is simulated: no time below says anything about a GPU')
  expect(text).not.toContain('The machine')
})

it('leaves out what was not measured', () => {
  expect(formatTable(reportOf([]))).not.toMatch(/Kernels|The model/)
})
