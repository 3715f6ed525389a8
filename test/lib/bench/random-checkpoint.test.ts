/** The largest published model as a set of headers: opened, checked, planned and estimated without its weights. */
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { presetBytes, writeSparseCheckpoint } from '../../../lib/bench/random-checkpoint.js'
import { openCheckpoint, toNativeConfig } from '../../../lib/checkpoint/checkpoint.js'
import { estimateRequest } from '../../../lib/generation/estimate.js'
import { planMemory } from '../../../lib/memory-plan.js'
import { nativeBinding } from '../../../lib/native.js'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'qwen2-vl-sparse-'))
  await writeSparseCheckpoint(folder, '72b-awq')
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const GIB = 2 ** 30

describe('72B in 4 bits', () => {
  it('lies in shards that take no room', async () => {
    const { weightFiles } = await openCheckpoint(folder)
    expect(weightFiles.length).toBeGreaterThan(10)
    const files = await Promise.all(weightFiles.map((file) => stat(file)))
    const bytes = files.reduce((sum, { size }) => sum + size, 0)
    expect(bytes).toBeGreaterThan(40e9)
    const onDisk = files.reduce((sum, { blocks }) => sum + blocks * 512, 0)
    expect(onDisk).toBeLessThan(20e6)
  })

  it('is opened and checked whole, in little memory', async () => {
    const checkpoint = await openCheckpoint(folder)
    expect(checkpoint.config).toMatchObject({ intermediateSize: 29696, numLayers: 80 })
    const before = process.memoryUsage.rss()
    const { numParameters, weightBytes } = await nativeBinding().checkWeights(
      checkpoint.weightFiles,
      toNativeConfig(checkpoint),
    )
    expect(process.memoryUsage.rss() - before).toBeLessThan(200e6)
    expect(weightBytes).toBe(presetBytes('72b-awq'))
    // 73.4e9 as published, and 128 more inner columns in each layer.
    expect(numParameters).toBe(73_405_560_320 + 80 * 3 * 128 * 8192)
  })

  it('is planned: the weights fit into 64 GiB, not into 32', async () => {
    const checkpoint = await openCheckpoint(folder)
    const planFor = (availableBytes: number) =>
      planMemory(checkpoint, {}, { availableBytes, kvShare: 0.25, owner: 'the system' })
    const plan = await planFor(64 * GIB)
    expect(plan).toMatchObject({ kvBytesPerToken: 655_360 })
    expect(plan.contextSize).toBeGreaterThan(8000)
    await expect(planFor(32 * GIB)).rejects.toThrow(/weights need .* MiB/)
  })

  it('is estimated: a page of text', async () => {
    const { config } = await openCheckpoint(folder)
    const estimate = estimateRequest({
      config,
      contextSize: 8192,
      kvBytesPerToken: 655_360,
      weightsBytes: presetBytes('72b-awq'),
      availableBytes: 64 * GIB,
      isOnGpu: false,
      textTokens: 1000,
      maxTokens: 100,
      answers: 1,
      items: [],
    })
    expect(estimate.prefillFlops).toBeGreaterThan(2 * 70e9 * 1000)
  })

  it('is refused when the configuration and the tensors differ', async () => {
    const checkpoint = await openCheckpoint(folder)
    const config = { ...toNativeConfig(checkpoint), intermediateSize: 29568 }
    await expect(
      nativeBinding().checkWeights(checkpoint.weightFiles, config),
    ).rejects.toMatchObject({ code: 'ERR_CHECKPOINT_SHAPE' })
  })
})

describe('presets', () => {
  it.each([
    ['2b', 4_417_971_200],
    ['7b', 16_582_751_232],
  ] as const)('%s has the bytes of the published model', (name, bytes) => {
    expect(presetBytes(name)).toBe(bytes)
  })
})
