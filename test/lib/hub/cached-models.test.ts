import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { listModels, removeModel } from '../../../lib/hub/cached-models.js'
import { downloadModel } from '../../../lib/hub/download-model.js'
import { parseRetryAfter } from '../../../lib/hub/http.js'
import { mergeSpans, missingPieces } from '../../../lib/hub/ledger.js'
import { hubSettings } from '../../../lib/hub/settings.js'
import { FakeHub } from './fake-hub.js'

describe('listModels() and removeModel()', () => {
  let hub: FakeHub
  let cacheDir: string

  beforeEach(async () => {
    hub = await FakeHub.start()
    cacheDir = await mkdtemp(join(tmpdir(), 'qwen2-vl-hub-'))
  })

  afterEach(async () => {
    await hub.close()
    await rm(cacheDir, { recursive: true, force: true })
  })

  test('know what is there, of which revision, and free its bytes', async () => {
    expect(await listModels({ cacheDir })).toEqual([])
    const options = { cacheDir, endpoint: hub.endpoint, token: false as const }
    const { folder, commit, bytes } = await downloadModel(hub.id, options)
    await downloadModel(hub.id, { ...options, source: 'modelscope' })
    const models = await listModels({ cacheDir })
    expect(models.map(({ source }) => source)).toEqual(['huggingface', 'modelscope'])
    expect(models[0]).toMatchObject({
      id: hub.id,
      commit,
      folder,
      revisions: ['main'],
      complete: true,
    })
    expect(models[0]!.bytes).toBeGreaterThan(bytes)
    expect(await removeModel(hub.id, { cacheDir })).toBe(models[0]!.bytes)
    expect(await removeModel(hub.id, { cacheDir })).toBe(0)
    expect((await listModels({ cacheDir })).map(({ source }) => source)).toEqual(['modelscope'])
    expect((await readdir(cacheDir)).sort()).toEqual(['.locks', 'CACHEDIR.TAG', 'modelscope'])
  })

  test('know what has not come yet', async () => {
    const controller = new AbortController()
    hub.pace = { bytes: 100_000, ms: 2 }
    await downloadModel(hub.id, {
      ...{ cacheDir, endpoint: hub.endpoint, token: false, signal: controller.signal },
      onProgress: ({ loadedBytes }) => loadedBytes > 3_000_000 && controller.abort(),
    }).catch(() => {})
    const [model] = await listModels({ cacheDir })
    expect(model).toMatchObject({ id: hub.id, commit: undefined, complete: false })
    expect(await removeModel(hub.id, { cacheDir })).toBeGreaterThan(1_000_000)
    expect(await listModels({ cacheDir })).toEqual([])
  })
})

describe('the settings', () => {
  test.each([
    [{}, join(homedir(), '.cache/huggingface/hub')],
    [{ XDG_CACHE_HOME: '/x' }, '/x/huggingface/hub'],
    [{ HF_HOME: '~/hf' }, join(homedir(), 'hf/hub')],
    [{ HF_HOME: '/hf', HUGGINGFACE_HUB_CACHE: '/old' }, '/old'],
    [{ HF_HOME: '/hf', HUGGINGFACE_HUB_CACHE: '/old', HF_HUB_CACHE: '/new' }, '/new'],
  ])('with %j keep models in %s', async (env, folder) => {
    expect((await hubSettings({}, env)).cacheDir).toBe(folder)
  })

  test('take token, endpoint and offline from the variables, which options override', async () => {
    const env = { HF_TOKEN: ' hf_a\n', HF_ENDPOINT: 'https://mirror.example/', HF_HUB_OFFLINE: '1' }
    expect(await hubSettings({}, env)).toMatchObject({
      token: 'hf_a',
      endpoint: 'https://mirror.example',
      offline: true,
      revision: 'main',
    })
    const options = { token: false as const, endpoint: 'http://a.example', offline: false }
    expect(await hubSettings(options, env)).toMatchObject({ ...options, token: undefined })
    // A token of one hub is not for another.
    expect((await hubSettings({ source: 'modelscope' }, env)).token).toBeUndefined()
    expect(
      (await hubSettings({}, { HF_HOME: '/none', HF_HUB_DISABLE_IMPLICIT_TOKEN: '1' })).token,
    ).toBe(undefined)
  })

  test.each([
    [{ revision: '../../x' }, 'revision'],
    [{ revision: 'a//b' }, 'revision'],
    [{ endpoint: 'file:///etc' }, 'endpoint'],
    [{ endpoint: 'huggingface.co' }, 'endpoint'],
    [{ token: 'two words' }, 'token'],
  ])('refuse %j', async (options, path) => {
    await expect(hubSettings(options, {})).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      path,
    })
  })
})

describe('the parts of a file', () => {
  test('join, and leave out what is missing in pieces', () => {
    const spans = mergeSpans([
      { start: 10, end: 20 },
      { start: 0, end: 5 },
      { start: 18, end: 30 },
      { start: 5, end: 6 },
    ])
    expect(spans).toEqual([
      { start: 0, end: 6 },
      { start: 10, end: 30 },
    ])
    expect(missingPieces(spans, 38, 5)).toEqual([
      { start: 6, end: 10 },
      { start: 30, end: 35 },
      { start: 35, end: 38 },
    ])
    expect(missingPieces([], 0, 5)).toEqual([])
  })

  test('Retry-After is a number of seconds or a date', () => {
    expect(parseRetryAfter('7')).toBe(7000)
    expect(parseRetryAfter(new Date(5000).toUTCString(), 2000)).toBe(3000)
    expect(parseRetryAfter(new Date(0).toUTCString(), 2000)).toBe(0)
    expect(parseRetryAfter('soon')).toBeUndefined()
    expect(parseRetryAfter(null)).toBeUndefined()
  })
})
