import { basename } from 'node:path'
import { describe, expect, it } from 'vitest'
import { openCheckpoint } from '../../../lib/checkpoint/checkpoint.js'
import type { CheckpointError } from '../../../lib/errors.js'
import { checkpointFolder } from './folder.js'

const INDEX = 'model.safetensors.index.json'

function index(weight_map: unknown): Record<string, object> {
  return { [INDEX]: { metadata: { total_size: 1 }, weight_map } }
}

async function weightFiles(files: Parameters<typeof checkpointFolder>[0]): Promise<string[]> {
  const folder = await checkpointFolder({ 'model.safetensors': null, ...files })
  return (await openCheckpoint(folder)).weightFiles.map((file) => basename(file))
}

async function failure(files: Parameters<typeof checkpointFolder>[0]): Promise<CheckpointError> {
  return weightFiles(files).then(
    () => expect.fail('the weights were accepted'),
    (error: unknown) => error as CheckpointError,
  )
}

describe('weight files', () => {
  it('are the shards of the index, each once and in order', async () => {
    const shards = { 'a-2.safetensors': 'x', 'a-1.safetensors': 'x' }
    const map = { p: 'a-2.safetensors', q: 'a-1.safetensors', r: 'a-2.safetensors' }
    expect(await weightFiles({ ...index(map), ...shards })).toEqual([
      'a-1.safetensors',
      'a-2.safetensors',
    ])
  })

  it('are the single file where there are both, as in the reference', async () => {
    const map = { p: 'a-1.safetensors' }
    expect(await weightFiles({ ...index(map), 'model.safetensors': 'x' })).toEqual([
      'model.safetensors',
    ])
  })

  it('are those that AutoGPTQ wrote, whole or in shards', async () => {
    const name = 'gptq_model-4bit-128g.safetensors'
    expect(await weightFiles({ [name]: 'x' })).toEqual([name])
    const shard = 'gptq_model-8bit--1g-00001-of-00002.safetensors'
    const map = { weight_map: { p: shard } }
    const sharded = 'gptq_model-8bit--1g.safetensors.index.json'
    expect(await weightFiles({ [sharded]: map, [shard]: 'x' })).toEqual([shard])
    expect(await weightFiles({ [name]: 'x', 'model.safetensors': 'x' })).toEqual([
      'model.safetensors',
    ])
    const error = await failure({ [sharded]: map })
    expect(error.message).toMatch(/weight files that gptq_model-8bit--1g.* names are missing/)
  })

  it('are not chosen among several that AutoGPTQ wrote', async () => {
    const error = await failure({
      'gptq_model-4bit-128g.safetensors': 'x',
      'gptq_model-8bit-128g.safetensors': 'x',
    })
    expect(error.code).toBe('ERR_CHECKPOINT_NO_WEIGHTS')
    expect(error.message).toMatch(/gptq_model-4bit-128g\S+ and gptq_model-8bit.* remove the others/)
  })

  it('names the shards that are missing', async () => {
    const map = { p: 'a-1.safetensors', q: 'a-2.safetensors', r: 'a-3.safetensors' }
    const error = await failure({ ...index(map), 'a-2.safetensors': 'x' })
    expect(error.code).toBe('ERR_CHECKPOINT_MISSING_SHARD')
    expect(error.message).toMatch(/^2 of the 3 .* a-1\.safetensors, a-3\.safetensors\./)
    expect(error.details).toMatchObject({ missing: ['a-1.safetensors', 'a-3.safetensors'] })
  })

  it.each([
    '../outside.safetensors',
    '/etc/passwd.safetensors',
    'sub/a.safetensors',
    'sub\\a.safetensors',
    'C:a.safetensors',
    'a.bin',
    '.safetensors/..',
    '',
    7,
    null,
  ])('refuses an index that names the file %j', async (name) => {
    const error = await failure(index({ weight: name }))
    expect(error.code).toBe('ERR_CHECKPOINT_INDEX')
    expect(error.message).toMatch(/tensor "weight" is said to be in .*without a path/)
  })

  it.each([undefined, null, [], {}, 'a.safetensors'])(
    'refuses an index whose weight_map is %j',
    async (map) => {
      const error = await failure(index(map))
      expect(error.code).toBe('ERR_CHECKPOINT_INDEX')
      expect(error.file).toMatch(/index\.json$/)
    },
  )

  it('refuses an index that is not JSON', async () => {
    const error = await failure({ [INDEX]: '{"weight_map": {' })
    expect(error.code).toBe('ERR_CHECKPOINT_JSON')
  })

  it.each([
    [{}, /Expected model\.safetensors, or model\.safetensors\.index\.json/],
    [{ 'pytorch_model.bin': 'x' }, /pytorch_model\.bin, but only safetensors files are read/],
    [{ 'pytorch_model-00001-of-00002.bin': 'x' }, /safe_serialization=True/],
    [{ 'qwen2-vl-q4.gguf': 'x' }, /qwen2-vl-q4\.gguf, but only safetensors/],
    [{ 'adapter_model.safetensors': 'x' }, /an adapter .* Merge it into its base model/],
  ])('says what is there instead of weights: %j', async (files, message) => {
    const error = await failure(files)
    expect(error.code).toBe('ERR_CHECKPOINT_NO_WEIGHTS')
    expect(error.message).toMatch(message)
  })
})
