import { describe, expect, it } from 'vitest'
import { openCheckpoint } from '../../lib/checkpoint/checkpoint.js'
import { chooseDevice, type DeviceOptions } from '../../lib/device.js'
import { BackendError, InvalidArgumentError, OutOfMemoryError } from '../../lib/errors.js'
import type { NativeBinding, NativeCudaInfo } from '../../lib/native.js'
import { tinyFolder } from './generation/tiny-samples.js'

const tiny = await openCheckpoint(tinyFolder)
const awq = {
  ...tiny,
  config: {
    ...tiny.config,
    storedQuantization: { method: 'awq', bits: 4, groupSize: 128 },
  } as typeof tiny.config,
}

const gpu = {
  name: 'A GPU',
  computeCapability: '8.0',
  memoryBytes: 8e9,
  multiprocessors: 100,
  clockHz: 1.5e9,
  memoryClockHz: 1e9,
  memoryBusBits: 384,
  freeBytes: 7e9,
  reason: '',
}
const library = { found: true, path: '', version: '' }
const machine: NativeCudaInfo = {
  built: true,
  builtReason: '',
  driver: library,
  cublasLt: library,
  devices: [gpu],
  usable: true,
  reason: '',
}

const noDriver = { ...machine, devices: [], usable: false, reason: 'libcuda.so.1 was not found' }

const choose = (options: DeviceOptions, cuda: NativeCudaInfo = machine, checkpoint = tiny) =>
  chooseDevice(
    {
      cpuInfo: () => ({ availableMemoryBytes: 64e9 }),
      cudaInfo: () => Promise.resolve(cuda),
    } as unknown as NativeBinding,
    checkpoint,
    options,
  )

describe('chooseDevice', () => {
  it('takes the first GPU that can be used, with everything in one 16-bit type', async () => {
    const choice = await choose({})
    expect(choice).toMatchObject({
      cudaDevice: 0,
      reason: 'the first GPU that can be used',
      dtype: 'bf16',
    })
    expect(choice.plan.kvDtype).toBe('bf16')
  })

  it('keeps the CPU when the caller asks for it', async () => {
    expect(await choose({ device: 'cpu' })).toMatchObject({
      cudaDevice: null,
      reason: 'the caller asked for it',
      dtype: undefined,
    })
  })

  it('falls back to the CPU and says what is missing', async () => {
    expect(await choose({}, noDriver)).toMatchObject({
      cudaDevice: null,
      reason: 'libcuda.so.1 was not found',
    })
    const old = { ...gpu, reason: 'compute capability 7.5 is too old' }
    expect(await choose({}, { ...machine, devices: [old], usable: false })).toMatchObject({
      cudaDevice: null,
      reason: 'compute capability 7.5 is too old',
    })
    const small = { ...gpu, memoryBytes: 3e8, freeBytes: 2.7e8 }
    const { cudaDevice, reason } = await choose({}, { ...machine, devices: [small] })
    expect(cudaDevice).toBeNull()
    expect(reason).toMatch(/^not enough memory on the GPU: /)
  })

  it.each([
    [{ weights: 'mapped' }, /mapped.*only the CPU has/],
    [{ dtype: 'fp32' }, /fp32.*only the CPU has/],
    [{ activations: 'int8' }, /int8.*only the CPU has/],
    [{ kvCacheType: 'fp32' }, /kvCacheType.*only the CPU has/],
  ] as [DeviceOptions, RegExp][])('leaves %o to the CPU', async (options, reason) => {
    const choice = await choose(options)
    expect(choice.cudaDevice).toBeNull()
    expect(choice.reason).toMatch(reason)
    await expect(choose({ ...options, device: 'cuda' })).rejects.toThrow(InvalidArgumentError)
  })

  it('takes checkpoints that are stored quantised and quantises as it loads', async () => {
    expect(await choose({}, machine, awq)).toMatchObject({ cudaDevice: 0, dtype: 'bf16' })
    const options = { quantization: 'int4', visionQuantization: 'int8' } as const
    expect(await choose({ ...options, device: 'cuda' })).toMatchObject({ cudaDevice: 0 })
  })

  it('leaves room for the largest matrix in 16 bits beside quantised weights', async () => {
    const small = { ...machine, devices: [{ ...gpu, freeBytes: 2 ** 28 + 30e6 }] }
    const { plan } = await choose({}, small)
    const quantized = (await choose({}, small, awq)).plan
    const { hiddenSize, intermediateSize } = tiny.config
    const matrixBytes = 2 * 2 * intermediateSize * hiddenSize
    const fewer = (plan.kvCacheTokens - quantized.kvCacheTokens) * plan.kvBytesPerToken
    expect(Math.abs(fewer - 0.6 * matrixBytes)).toBeLessThan(2 * plan.kvBytesPerToken)
  })

  it('refuses a GPU that is asked for and cannot be used, with the reason', async () => {
    const refused = choose({ device: 'cuda' }, noDriver)
    await expect(refused).rejects.toThrow(BackendError)
    await expect(refused).rejects.toThrow('libcuda.so.1 was not found')
    await expect(choose({ device: 'cuda:1' })).rejects.toThrow('there is no CUDA device 1, but 1')
    const small = { ...gpu, memoryBytes: 3e8, freeBytes: 2.7e8 }
    const full = choose({ device: 'cuda' }, { ...machine, devices: [small] })
    await expect(full).rejects.toThrow(OutOfMemoryError)
  })
})
