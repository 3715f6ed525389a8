import { describe, expect, it } from 'vitest'
import { openCheckpoint } from '../../lib/checkpoint/checkpoint.js'
import { OutOfMemoryError } from '../../lib/errors.js'
import { planMemory, type MemoryOptions } from '../../lib/memory-plan.js'
import { loadTiny } from '../addon/tiny.js'
import { tinyFolder } from './generation/tiny-samples.js'

const tiny = await openCheckpoint(tinyFolder)
const weights = 11_109_528 // bytes of model.safetensors
const perToken = 2 * 4 * 2 * 32 * 4 // keys and values, layers, heads, head size, fp32
const contextSize = 2048

const plan = (options: MemoryOptions, availableBytes: number) =>
  planMemory(tiny, options, { availableBytes, kvShare: 0.25, owner: 'the system' })

describe('planMemory', () => {
  it('takes the whole context for every concurrent request where memory is plenty', async () => {
    expect(await plan({}, 64e9)).toEqual({
      contextSize,
      maxConcurrency: 32,
      kvDtype: 'fp32',
      kvBytesPerToken: perToken,
      kvCacheTokens: 32 * contextSize,
    })
  })

  it('counts quantised weights as what they take', async () => {
    const native = await loadTiny({ quantization: 'int4', visionQuantization: 'int8' })
    const { weightBytes } = native
    await native.dispose()
    const quantized = { quantization: 'int4', visionQuantization: 'int8' } as const
    const { contextSize: tokens } = await plan({ ...quantized, memoryLimit: 6e6 }, 0)
    // Beside the weights, the files hold a header, which counts as if it were weights.
    const least = Math.floor((6e6 - weightBytes) / perToken)
    expect(tokens).toBeGreaterThan(least - 20)
    expect(tokens).toBeLessThanOrEqual(least)
    expect((await plan({ memoryLimit: 15e6 }, 0)).contextSize).toBeLessThan(contextSize)
    expect((await plan({ ...quantized, memoryLimit: 15e6 }, 0)).contextSize).toBe(contextSize)
  })

  it('takes at most a quarter of the free memory', async () => {
    const tokens = 5000
    const available = weights + 4 * tokens * perToken
    expect(await plan({}, available)).toMatchObject({ contextSize, kvCacheTokens: tokens })
  })

  it('shrinks the context to what a quarter of the free memory holds', async () => {
    const available = weights + 4 * 1000 * perToken
    expect(await plan({}, available)).toMatchObject({ contextSize: 1000, kvCacheTokens: 1000 })
  })

  it('keeps a context that was asked for, whose memory is only used when it is full', async () => {
    const available = weights + 4 * 1000 * perToken
    expect(await plan({ contextSize: 1800 }, available)).toMatchObject({
      contextSize: 1800,
      kvCacheTokens: 1800,
    })
  })

  it('keeps a context that was asked for on a GPU as far as its memory goes', async () => {
    const budget = {
      availableBytes: weights + 1000 * perToken,
      kvShare: 0.6,
      owner: 'the GPU',
    } as const
    expect(await planMemory(tiny, { contextSize: 1000 }, budget)).toMatchObject({
      contextSize: 1000,
      kvCacheTokens: 1000,
    })
    expect((await planMemory(tiny, {}, budget)).contextSize).toBe(600)
    await expect(planMemory(tiny, { contextSize: 1001 }, budget)).rejects.toThrow(OutOfMemoryError)
  })

  it('uses all of a memory limit, and no more', async () => {
    const memoryLimit = weights + 3000 * perToken
    expect(await plan({ memoryLimit }, 64e9)).toMatchObject({ contextSize, kvCacheTokens: 3000 })
    await expect(plan({ memoryLimit, contextSize: 3001 }, 64e9)).rejects.toMatchObject({
      code: 'ERR_OUT_OF_MEMORY',
      details: { requiredBytes: 3001 * perToken, availableBytes: 3000 * perToken },
    })
  })

  it('counts mapped weights against no limit, but leaves room for them', async () => {
    const mapped = { weights: 'mapped' } as const
    expect(await plan({ ...mapped, memoryLimit: 3000 * perToken }, 64e9)).toMatchObject({
      kvCacheTokens: 3000,
    })
    const available = weights + 4 * 5000 * perToken
    expect(await plan(mapped, available)).toEqual(await plan({}, available))
    // Less than the weights need: half is left for them.
    expect(await plan(mapped, 8 * 1000 * perToken)).toMatchObject({ kvCacheTokens: 1000 })
  })

  it('holds twice the tokens in 16 bits', async () => {
    const memoryLimit = weights + 3000 * perToken
    expect(await plan({ memoryLimit, kvCacheType: 'bf16' }, 64e9)).toMatchObject({
      kvDtype: 'bf16',
      kvBytesPerToken: perToken / 2,
      kvCacheTokens: 6000,
    })
  })

  it('counts what converting the weights adds', async () => {
    await expect(plan({ dtype: 'fp32', memoryLimit: 1.5 * weights }, 64e9)).rejects.toMatchObject({
      details: { requiredBytes: 2 * weights },
    })
  })

  it('refuses weights that do not fit, before the system kills the process', async () => {
    await expect(plan({}, 10e6)).rejects.toThrow(OutOfMemoryError)
    await expect(plan({}, weights + 4 * 100 * perToken)).rejects.toThrow(/context of 256 tokens/)
  })

  it('says whose memory is not enough', async () => {
    const budget = { availableBytes: 10e6, kvShare: 0.6, owner: 'the GPU' } as const
    await expect(planMemory(tiny, {}, budget)).rejects.toThrow(/but the GPU has 10 MiB/)
  })

  it('plans for a small machine where the system does not say what it has', async () => {
    expect(await plan({}, 0)).toMatchObject({ contextSize })
  })
})
