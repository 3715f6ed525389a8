/** What is missing on a machine is said exactly: 'auto' goes on with the CPU, 'cuda' is refused. */
import { execFile } from 'node:child_process'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { packageRoot } from '../../lib/package-root.js'
import { isGpu } from './fixtures/where.js'

const fixture = join(packageRoot, 'test/cuda/fixtures/load-tiny.ts')
const run = promisify(execFile)

/** In a process of its own, as libraries are opened once. */
async function load(device: string, env: Record<string, string>): Promise<Record<string, string>> {
  const { stdout } = await run(process.execPath, ['--import', 'tsx', fixture, device], {
    env: { ...process.env, ...env },
  })
  return JSON.parse(stdout) as Record<string, string>
}

describe.skipIf(isGpu).each([
  ['no driver', { QWEN2_VL_CUDA_DRIVER: '/nowhere/libcuda.so.1' }, /no CUDA driver: .*nowhere/],
  ['a driver that is too old', { QWEN2_VL_SIM_DRIVER_VERSION: '12040' }, /supports CUDA 12\.4/],
  ['no cuBLASLt', { QWEN2_VL_CUBLASLT: '/nowhere/libcublasLt.so.13' }, /no cuBLASLt: .*nowhere/],
  ['a library that is no driver', { QWEN2_VL_CUDA_DRIVER: 'libm.so.6' }, /lacks cuInit/],
] as const)('with %s', (_, env, reason) => {
  it('auto takes the CPU and says why', async () => {
    expect(await load('auto', env)).toMatchObject({
      kind: 'cpu',
      reason: expect.stringMatching(reason) as string,
    })
  })

  it('cuda is refused with the reason', async () => {
    expect(await load('cuda', env)).toMatchObject({
      code: 'ERR_BACKEND_UNAVAILABLE',
      message: expect.stringMatching(reason) as string,
    })
  })
})

describe.skipIf(isGpu)('with too little memory on the GPU', () => {
  const env = { QWEN2_VL_SIM_MEMORY: String(2 ** 28 + 2 ** 20) }

  it('auto takes the CPU and says why', async () => {
    expect(await load('auto', env)).toMatchObject({
      kind: 'cpu',
      reason: expect.stringContaining('not enough memory on the GPU') as string,
    })
  })

  it('cuda is refused', async () => {
    expect(await load('cuda', env)).toMatchObject({ code: 'ERR_OUT_OF_MEMORY' })
  })
})

describe.skipIf(process.platform !== 'linux')('the addon', () => {
  it('needs no library of NVIDIA', async () => {
    const addon = createRequire(import.meta.url).resolve('../../build/Release/qwen2vl.node')
    const { stdout } = await run('readelf', ['-d', addon])
    const needed = [...stdout.matchAll(/\(NEEDED\).*\[(.*)\]/g)].map(([, name]) => name)
    expect(needed.length).toBeGreaterThan(0)
    expect(needed.filter((name) => /cuda|cublas|nv/.test(name ?? ''))).toEqual([])
  })
})
