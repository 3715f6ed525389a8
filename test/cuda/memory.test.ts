/** The memory of the device, not of the machine, is what plans, estimates and diagnoses go by. */
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { diagnose } from '../../lib/doctor/diagnose.js'
import { makePicture } from '../../lib/bench/pictures.js'
import { loadModel, type Model } from '../../lib/index.js'
import { nativeBinding } from '../../lib/native.js'
import { packageRoot } from '../../lib/package-root.js'
import { requestOf, sampleOf } from '../lib/generation/tiny-samples.js'

/** Small enough that the device of any simulation or machine has it beside the model. */
const contextSize = 1024

let model: Model
beforeAll(async () => void (model = await loadModel('tiny', { device: 'cuda', contextSize })))
afterAll(() => model.dispose())

async function firstDevice() {
  const [device] = (await nativeBinding().cudaInfo(0)).devices
  if (!device || device.freeBytes === null) throw new Error('there is no device')
  return { ...device, freeBytes: device.freeBytes }
}

describe("the device's memory", () => {
  it('is told by the model', async () => {
    expect(model.info.device.memoryBytes).toBe((await firstDevice()).memoryBytes)
    const onCpu = await loadModel('tiny', { device: 'cpu', contextSize })
    expect(onCpu.info.device).not.toHaveProperty('memoryBytes')
    await onCpu.dispose()
  })

  it('is what estimates compare with, beside weights and KV cache', async () => {
    const { availableBytes, visionWorkspaceBytes, fits } = await model.estimate(
      requestOf(sampleOf('ocr-hello')),
    )
    const { memoryBytes, freeBytes } = await firstDevice()
    const { kvCache, weightBytes } = model.info
    // The pool may keep more than the driver has left.
    expect(availableBytes).toBeGreaterThanOrEqual(freeBytes)
    expect(availableBytes).toBeLessThanOrEqual(
      memoryBytes - weightBytes - kvCache.tokens * kvCache.bytesPerToken,
    )
    expect(visionWorkspaceBytes).toBeGreaterThan(0)
    expect(fits).toBe(true)
  })

  it('is no longer told once the model is gone', async () => {
    const other = await loadModel('tiny', { device: 'cuda', contextSize })
    await other.dispose()
    await expect(other.estimate({ prompt: 'Hello' })).rejects.toMatchObject({
      code: 'ERR_DISPOSED',
    })
  })

  it('goes back to the driver when caches are cleared, but for that of the KV cache', async () => {
    const content = [{ type: 'image' as const, image: makePicture(448, 448) }]
    const see = () => model.generate({ messages: [{ role: 'user', content }], maxTokens: 1 })
    await see() // what steps need stays
    await model.clearCache()
    const before = await firstDevice()
    await see()
    const kept = await firstDevice()
    const { availableBytes } = await model.estimate({ prompt: 'Hello' })
    await model.clearCache()
    const after = await firstDevice()
    expect(kept.freeBytes).toBeLessThan(before.freeBytes)
    expect(after.freeBytes).toBeGreaterThan(kept.freeBytes)
    expect(availableBytes).toBeGreaterThan(kept.freeBytes)
    // And everything is there again for the next request.
    const { tokenIds } = await model.generate(requestOf(sampleOf('ocr-hello')))
    expect(tokenIds).toEqual(sampleOf('ocr-hello').reference.token_ids)
  })

  it('is in what the doctor says', async () => {
    const main = join(packageRoot, 'lib/cli/main.ts')
    const { findings } = await diagnose(['--import', 'tsx', main, 'doctor', '--probe'])
    const cuda = findings.find(({ topic }) => topic === 'CUDA')
    expect(cuda).toMatchObject({ status: 'ok', facts: { chosen: 'cuda' } })
    expect(cuda?.summary).toMatch(/\(\d+\.\d, [\d.]+ [GM]i?B free of [\d.]+ [GM]i?B\)/)
  })
})
