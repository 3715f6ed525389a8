/** A kernel that fails takes its GPU from this process, not the process: models on the CPU go on. */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { packageRoot } from '../../lib/package-root.js'
import { sampleOf } from '../lib/generation/tiny-samples.js'

const run = promisify(execFile)
const fixture = join(packageRoot, 'test/cuda/fixtures/fault.ts')

/** What became of the fixture's calls, in a process of its own. */
async function after(fault: string): Promise<Record<string, unknown>> {
  const { stdout } = await run(process.execPath, ['--import', 'tsx', fixture, fault], {
    env: { ...process.env, QWEN2_VL_SIM_FAULT: 'none' },
  })
  return JSON.parse(stdout) as Record<string, unknown>
}

describe.skipIf(process.env['QWEN2_VL_TEST_CUDA'] === 'gpu').each([
  ['an illegal address', 'illegal-address', 'CUDA_ERROR_ILLEGAL_ADDRESS'],
  ['a failed launch', 'launch-failed', 'CUDA_ERROR_LAUNCH_FAILED'],
])('%s', (_, fault, name) => {
  it('ends the requests of its model with a typed error, and only those', async () => {
    const failed = {
      code: 'ERR_BACKEND_FAILED',
      isBackendError: true,
      message: expect.stringMatching(new RegExp(`${name}.*start it anew`)) as string,
    }
    const lost = { message: expect.stringContaining(name) as string, isBackendError: true }
    expect(await after(fault)).toEqual({
      running: [failed, failed],
      later: failed,
      estimate: failed,
      clearCache: 'done',
      dispose: 'done',
      loadOnCuda: { ...lost, code: 'ERR_BACKEND_UNAVAILABLE' },
      loadOnAuto: ['cpu', lost.message],
      cpuBeside: sampleOf('text-math').reference.token_ids,
      cpuLater: sampleOf('ocr-hello').reference.token_ids,
    })
  })
})
