/** `qwen2-vl bench --device cuda`: the GPU's own limits beside the rows, and none beside a simulator's. */
import { expect, it } from 'vitest'
import { runBench } from '../../lib/bench/bench.js'
import { formatTable } from '../../lib/bench/table.js'
import { isGpu } from './fixtures/where.js'

const measure = (filter: string) =>
  runBench({ model: 'tiny', filter, quick: true, load: { device: 'cuda' } })

it.runIf(isGpu)('puts figures of a GPU beside its limits and the model', async () => {
  const report = await measure('decode, 1')
  expect(report).not.toHaveProperty('isSimulated')
  const names = report.limits.map(({ name }) => name)
  expect(names).toContain('memory')
  expect(names).toContain('copy')
  const [row] = report.rows
  expect(row?.fraction).toBeGreaterThan(0)
  expect(row?.fraction).toBeLessThan(1)
  expect(row?.modelled).toBeGreaterThan(0)
})

it.skipIf(isGpu)('says of a simulated GPU that its times say nothing', async () => {
  const report = await measure('decode, 1')
  expect(report).toMatchObject({ isSimulated: true, limits: [], instructionSet: 'sm_80' })
  const [row] = report.rows
  expect(row).toMatchObject({ name: 'decode, 1 sequence' })
  expect(row).not.toHaveProperty('fraction')
  expect(row).not.toHaveProperty('modelled')
  expect(formatTable(report)).toContain('The GPU is simulated')
})
