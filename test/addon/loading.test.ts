import { mkdtempSync, rmSync, truncateSync, copyFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import type { NativeLoadOptions, NativeLoadProgress } from '../../lib/native.js'
import { addon, loadTiny, run, sample, startLoading, textRequest, tinyLoadOptions } from './tiny.js'

const scratch = mkdtempSync(join(tmpdir(), 'qwen2-vl-addon-'))
afterAll(() => rmSync(scratch, { recursive: true }))

describe('loadModel', () => {
  it('loads, tells what it loaded, and frees it', async () => {
    const model = await loadTiny({ threads: 1 })
    expect(model.device).toMatchObject({ kind: 'cpu', threads: 1 })
    expect(model.device.name).not.toBe('')
    expect(model.numParameters).toBe(5_549_440)
    expect(model.weightBytes).toBe(2 * model.numParameters)
    await model.dispose()
    await model.dispose() // again is fine
  })

  it('reports progress that only grows and ends complete', async () => {
    const reports: NativeLoadProgress[] = []
    const model = await startLoading({}, (progress) => reports.push(progress)).promise
    const last = reports.at(-1)!
    expect(last.loadedBytes).toBe(last.totalBytes)
    expect(last.totalBytes).toBe(model.weightBytes)
    for (const [i, { loadedBytes }] of reports.entries()) {
      expect(loadedBytes).toBeGreaterThanOrEqual(reports[i - 1]?.loadedBytes ?? 0)
    }
    await model.dispose()
  })

  it.skipIf(process.platform === 'win32')(
    'fails requests, not the process, when a mapped file became shorter',
    async () => {
      const file = join(scratch, 'mapped.safetensors')
      copyFileSync(tinyLoadOptions.weightFiles[0]!, file)
      const model = await loadTiny({ weights: 'mapped', weightFiles: [file] })
      await run(model, textRequest()).end
      truncateSync(file, 4096)
      await expect(run(model, textRequest()).end).rejects.toMatchObject({
        code: 'ERR_CHECKPOINT_TRUNCATED',
        details: { file },
      })
      await model.dispose()
    },
  )

  it('rejects with ERR_ABORTED when it is cancelled', async () => {
    const loading = startLoading()
    loading.cancel()
    await expect(loading.promise).rejects.toMatchObject({ code: 'ERR_ABORTED' })
  })

  it('may be cancelled at any moment, also after its end', async () => {
    for (let delay = 0; delay < 10; ++delay) {
      const loading = startLoading()
      const timer = setTimeout(() => loading.cancel(), delay)
      const outcome = await loading.promise.catch(
        (error: unknown) => (error as { code?: string }).code,
      )
      clearTimeout(timer)
      loading.cancel()
      if (outcome === 'ERR_ABORTED') continue
      expect(outcome).toBeTypeOf('object')
      await (outcome as { dispose(): Promise<void> }).dispose()
    }
  })

  it('says which file is missing', async () => {
    const file = join(scratch, 'absent.safetensors')
    await expect(loadTiny({ weightFiles: [file] })).rejects.toMatchObject({
      code: expect.stringMatching(/^ERR_CHECKPOINT_/) as string,
      message: expect.stringContaining(file) as string,
      details: { file },
    })
  })

  it('says which file is truncated', async () => {
    const file = join(scratch, 'short.safetensors')
    copyFileSync(tinyLoadOptions.weightFiles[0]!, file)
    truncateSync(file, 1_000_000)
    await expect(loadTiny({ weightFiles: [file] })).rejects.toMatchObject({
      code: expect.stringMatching(/^ERR_CHECKPOINT_/) as string,
      details: { file },
    })
  })

  it('says which tensor has another shape than the configuration wants', async () => {
    const config = { ...tinyLoadOptions.config, intermediateSize: 512 }
    await expect(loadTiny({ config })).rejects.toMatchObject({
      code: expect.stringMatching(/^ERR_CHECKPOINT_/) as string,
      details: { tensor: expect.stringContaining('mlp') as string },
    })
  })

  it('refuses an instruction set that there is not', async () => {
    await expect(loadTiny({ instructionSet: 'mmx' })).rejects.toMatchObject({
      code: 'ERR_BACKEND_UNAVAILABLE',
    })
  })

  it('computes the same on the scalar kernels', async () => {
    const model = await loadTiny({ instructionSet: 'scalar' })
    expect(model.device.instructionSet).toBe('scalar')
    const { ids } = await run(model, textRequest()).end
    expect(ids).toEqual(sample('text-who').reference.token_ids)
    await model.dispose()
  })

  it.each<[keyof NativeLoadOptions, unknown]>([
    ['weightFiles', 'model.safetensors'],
    ['weightFiles', [1]],
    ['config', null],
    ['threads', -1],
    ['threads', 1.5],
    ['threads', '2'],
    ['kvCacheTokens', 0],
    ['kvCacheTokens', NaN],
    ['kvCacheTokens', 2 ** 60],
    ['maxContext', 2 ** 40],
    ['kvDtype', 'int8'],
    ['weightDtype', 1],
    ['quantization', 'int2'],
    ['visionQuantization', 'int4'],
    ['activations', 'bf16'],
    ['prefillChunk', Infinity],
    ['maxQueue', undefined],
  ])('refuses %s: %j before it starts', (name, value) => {
    expect(() => startLoading({ [name]: value })).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }),
    )
  })

  it('refuses options that are not an object', () => {
    expect(() => addon.loadModel(5 as never, undefined)).toThrow(/options must be an object/)
    expect(() => addon.loadModel(tinyLoadOptions, 5 as never)).toThrow(/onProgress/)
  })

  it('does not let JavaScript construct its objects', async () => {
    const model = await loadTiny()
    const NativeModel = model.constructor as new () => unknown
    expect(() => new NativeModel()).toThrow(TypeError)
    await model.dispose()
  })
})

describe('readTensorTable', () => {
  it('lists every tensor with its shape', async () => {
    const table = await addon.readTensorTable(tinyLoadOptions.weightFiles)
    expect(table.find(({ name }) => name === 'model.embed_tokens.weight')).toEqual({
      name: 'model.embed_tokens.weight',
      dtype: 'BF16',
      shape: [1280, 256],
      offset: expect.any(Number) as number,
      bytes: 1280 * 256 * 2,
      file: tinyLoadOptions.weightFiles[0],
    })
    expect(table.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(2 * 5_549_440)
  })

  it('rejects for a file that is not there', async () => {
    await expect(addon.readTensorTable([join(scratch, 'no')])).rejects.toMatchObject({
      code: expect.stringMatching(/^ERR_CHECKPOINT_/) as string,
    })
  })
})

describe('cpuInfo', () => {
  it('knows the processor and its memory', () => {
    const info = addon.cpuInfo()
    expect(info.name).not.toBe('')
    expect(info.physicalCores).toBeGreaterThanOrEqual(1)
    expect(info.availableMemoryBytes).toBeGreaterThan(0)
  })
})
