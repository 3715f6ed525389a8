import { execFile } from 'node:child_process'
import { chmod, mkdir, truncate, writeFile } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { openCheckpoint, toNativeConfig } from '../../../lib/checkpoint/checkpoint.js'
import { CheckpointError, ModelNotFoundError } from '../../../lib/errors.js'
import { checkpointFolder, flatConfig } from './folder.js'

const tiny = fileURLToPath(new URL('../../../models/qwen2-vl-tiny', import.meta.url))

/** The error of opening a checkpoint with these files. */
async function failure(files: Parameters<typeof checkpointFolder>[0]): Promise<CheckpointError> {
  const folder = await checkpointFolder(files)
  return openCheckpoint(folder).then(
    () => expect.fail('the checkpoint was accepted'),
    (error: unknown) => error as CheckpointError,
  )
}

describe('openCheckpoint', () => {
  it('reads the bundled checkpoint', async () => {
    const checkpoint = await openCheckpoint(tiny)
    expect(checkpoint.architecture).toBe('Qwen2VLForConditionalGeneration')
    expect(checkpoint.weightFiles).toEqual([join(tiny, 'model.safetensors')])
    expect(checkpoint.chatTemplate).toContain('<|vision_start|><|image_pad|><|vision_end|>')
    expect(Object.keys(checkpoint.tokenizerFiles).sort()).toEqual([
      'mergesTxt',
      'tokenizerConfigJson',
      'tokenizerJson',
      'vocabJson',
    ])
    expect(checkpoint.generation).toEqual({
      doSample: true,
      temperature: 0.01,
      topP: 0.001,
      topK: 1,
      repetitionPenalty: 1,
      eosTokenIds: [1248, 1246],
      padTokenId: 1246,
    })
    expect(toNativeConfig(checkpoint)).toEqual({
      hiddenSize: 256,
      intermediateSize: 576,
      numLayers: 4,
      numHeads: 8,
      numKvHeads: 2,
      vocabSize: 1280,
      rmsNormEps: 1e-6,
      ropeTheta: 10000,
      mropeSection: [4, 6, 6],
      tieWordEmbeddings: true,
      imageTokenId: 1258,
      videoTokenId: 1259,
      vision: { depth: 4, embedDim: 192, numHeads: 6, mlpDim: 768, outDim: 256 },
      imageMean: [0.48145466, 0.4578275, 0.40821073],
      imageStd: [0.26862954, 0.26130258, 0.27577711],
      rescaleFactor: 1 / 255,
    })
  })

  it('does with the files that are needed, and leaves the rest undefined', async () => {
    const folder = await checkpointFolder({ 'tokenizer_config.json': null })
    const checkpoint = await openCheckpoint(folder)
    expect(checkpoint.chatTemplate).toBeUndefined()
    expect(Object.values(checkpoint.generation)).toEqual(Array(9).fill(undefined))
    expect(checkpoint.tokenizerFiles).toEqual({ tokenizerJson: '{"model": {}}' })
  })

  it('takes a relative path and gives absolute ones', async () => {
    const folder = await checkpointFolder()
    const checkpoint = await openCheckpoint(relative(process.cwd(), folder))
    expect(checkpoint.folder).toBe(folder)
    expect(checkpoint.weightFiles).toEqual([join(folder, 'model.safetensors')])
  })

  it('says when there is nothing at the path', async () => {
    const error: unknown = await openCheckpoint('/nowhere/at/all').catch((e: unknown) => e)
    expect(error).toBeInstanceOf(ModelNotFoundError)
    expect((error as Error).message).toMatch(/no checkpoint at \/nowhere\/at\/all/)
  })

  it('says when the path is a file', async () => {
    const folder = await checkpointFolder()
    const error: unknown = await openCheckpoint(join(folder, 'config.json')).catch(
      (e: unknown) => e,
    )
    expect(error).toBeInstanceOf(ModelNotFoundError)
    expect((error as Error).message).toMatch(/is a file\. Give the path of the checkpoint's folder/)
  })

  it('says when the folder has no config.json', async () => {
    const error = await failure({ 'config.json': null })
    expect(error).toBeInstanceOf(CheckpointError)
    expect(error.code).toBe('ERR_CHECKPOINT_MISSING_FILE')
    expect(error.file).toMatch(/config\.json$/)
  })
})

describe('files', () => {
  it.each([
    ['{"hidden_size": 64,', /config\.json is not valid JSON/],
    ['', /config\.json is not valid JSON/],
    ['[1, 2]', /config\.json holds \[1,2\]; a JSON object was expected/],
    ['null', /holds null/],
    ['{"rms_norm_eps": NaN}', /the number NaN after "rms_norm_eps"\. Python writes it/],
    ['{"a": "NaN", "rope_theta": -Infinity}', /the number -Infinity after "rope_theta"/],
  ])('refuses a config.json of %s', async (text, message) => {
    const error = await failure({ 'config.json': text })
    expect(error.code).toBe('ERR_CHECKPOINT_JSON')
    expect(error.message).toMatch(message)
  })

  it('reads a config.json with a byte order mark', async () => {
    const folder = await checkpointFolder({ 'config.json': `\ufeff${JSON.stringify(flatConfig)}` })
    await expect(openCheckpoint(folder)).resolves.toBeDefined()
  })

  it('refuses a file that is no UTF-8 text', async () => {
    const folder = await checkpointFolder()
    await writeFile(join(folder, 'tokenizer.json'), Buffer.from([0x7b, 0xff, 0xfe]))
    await expect(openCheckpoint(folder)).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT_READ',
      message: expect.stringMatching(/tokenizer\.json is not UTF-8 text/) as string,
    })
  })

  it.each([
    ['config.json', 16 * 2 ** 20],
    ['tokenizer.json', 256 * 2 ** 20],
  ])('does not read a %s of more than %i bytes', async (name, limit) => {
    const folder = await checkpointFolder()
    await truncate(join(folder, name), limit + 1) // a sparse file, of nothing but zeros
    await expect(openCheckpoint(folder)).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT_FILE_TOO_LARGE',
      details: { bytes: limit + 1, limit },
    })
  })

  it('refuses a folder in the place of a file', async () => {
    const folder = await checkpointFolder({ 'generation_config.json': null })
    await mkdir(join(folder, 'generation_config.json'))
    await expect(openCheckpoint(folder)).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT_READ',
      message: expect.stringMatching(/generation_config\.json is a folder/) as string,
    })
  })

  it.skipIf(process.platform === 'win32')('does not wait for a pipe', async () => {
    const folder = await checkpointFolder({ 'config.json': null })
    await promisify(execFile)('mkfifo', [join(folder, 'config.json')])
    await expect(openCheckpoint(folder)).rejects.toThrow(/is not a regular file/)
  })

  it.skipIf(process.platform === 'win32' || process.getuid?.() === 0)(
    'says when a file must not be read',
    async () => {
      const folder = await checkpointFolder()
      await chmod(join(folder, 'config.json'), 0)
      await expect(openCheckpoint(folder)).rejects.toThrow(/cannot be read .* permissions/)
    },
  )

  it.each(['tokenizer.json', 'model.safetensors'])(
    'recognises a Git LFS pointer in the place of %s',
    async (name) => {
      const pointer = 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4417971200\n'
      const error = await failure({ [name]: pointer })
      expect(error.code).toBe('ERR_CHECKPOINT_LFS_POINTER')
      expect(error.message).toMatch(/git lfs pull/)
    },
  )
})

describe('tokenizer files', () => {
  it('accepts vocab.json with merges.txt instead of tokenizer.json', async () => {
    const folder = await checkpointFolder({
      'tokenizer.json': null,
      'vocab.json': '{"a": 0}',
      'merges.txt': '#version: 0.2',
    })
    const { tokenizerFiles } = await openCheckpoint(folder)
    expect(tokenizerFiles.vocabJson).toBe('{"a": 0}')
    expect(tokenizerFiles.mergesTxt).toBe('#version: 0.2')
  })

  it.each([{}, { 'vocab.json': '{}' }, { 'merges.txt': '' }])(
    'refuses a checkpoint with nothing but %j',
    async (files) => {
      const error = await failure({ 'tokenizer.json': null, ...files })
      expect(error.code).toBe('ERR_CHECKPOINT_MISSING_FILE')
      expect(error.message).toMatch(/neither tokenizer\.json nor both of vocab\.json and merges/)
    },
  )
})

describe('chat template', () => {
  const json = { 'chat_template.json': { chat_template: 'from chat_template.json' } }

  it.each([
    ['tokenizer_config', {}],
    ['chat_template.json', json],
    ['chat_template.jinja', { ...json, 'chat_template.jinja': 'from chat_template.jinja' }],
  ])('is taken from %s', async (source, files) => {
    const { chatTemplate } = await openCheckpoint(await checkpointFolder(files))
    expect(chatTemplate).toBe(`from ${source}`)
  })

  it('is the default one where several are named', async () => {
    const chat_template = [
      { name: 'tool_use', template: 'tools' },
      { name: 'default', template: 'plain' },
    ]
    const folder = await checkpointFolder({ 'tokenizer_config.json': { chat_template } })
    expect((await openCheckpoint(folder)).chatTemplate).toBe('plain')
  })

  it.each([
    ['chat_template.json', {}, 'ERR_CHECKPOINT_CHAT_TEMPLATE'],
    ['chat_template.json', { chat_template: 7 }, 'ERR_CHECKPOINT_CHAT_TEMPLATE'],
    ['chat_template.json', '{% if %}', 'ERR_CHECKPOINT_JSON'],
    ['tokenizer_config.json', { chat_template: [{ name: 'x' }] }, 'ERR_CHECKPOINT_CHAT_TEMPLATE'],
    ['tokenizer_config.json', '{', 'ERR_CHECKPOINT_JSON'],
  ])('refuses a %s of %j', async (name, content, code) => {
    const error = await failure({ [name]: content })
    expect(error.code).toBe(code)
    expect(error.file).toMatch(new RegExp(`${name}$`))
  })
})
