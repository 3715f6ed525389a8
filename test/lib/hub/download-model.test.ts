import { existsSync } from 'node:fs'
import { lstat, mkdtemp, readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ChecksumError, DownloadError, ModelNotFoundError } from '../../../lib/errors.js'
import { download, downloadModel, type DownloadControls } from '../../../lib/hub/download-model.js'
import { DEFAULT_TIMING } from '../../../lib/hub/http.js'
import { ModelLayout } from '../../../lib/hub/layout.js'
import { hubSettings, type HubOptions } from '../../../lib/hub/settings.js'
import type { DownloadProgress } from '../../../lib/hub/progress.js'
import { loadModel } from '../../../lib/load-model.js'
import { FakeHub, gitHash, sha256, tinyFiles } from './fake-hub.js'

let hub: FakeHub
let cacheDir: string
let layout: ModelLayout
const commit = 'a'.repeat(40)

beforeEach(async () => {
  hub = await FakeHub.start()
  cacheDir = await mkdtemp(join(tmpdir(), 'qwen2-vl-hub-'))
  layout = new ModelLayout(cacheDir, hub.id)
})

afterEach(async () => {
  await hub.close()
  await rm(cacheDir, { recursive: true, force: true })
})

const given = (options: HubOptions = {}) => ({
  cacheDir,
  endpoint: hub.endpoint,
  token: false as const,
  ...options,
})

/** A download that does not wait long for another try. */
async function quick(options: HubOptions = {}, controls: DownloadControls = {}) {
  const timing = { ...DEFAULT_TIMING, backoffMs: 1, stallMs: 200 }
  return download(hub.id, await hubSettings(given(options)), { timing, ...controls })
}

const failure = async (work: Promise<unknown>) =>
  work.then(
    () => expect.unreachable('should have failed'),
    (error: unknown) => error,
  ) as Promise<DownloadError>

const weights = () => hub.files.get('model.safetensors')!.bytes

describe('the cache', () => {
  test('has the layout of huggingface_hub and only the files that are needed', async () => {
    const model = await downloadModel(hub.id, given())
    expect(model.folder).toBe(join(cacheDir, 'models--owner--tiny', 'snapshots', commit))
    expect(model.files).toEqual([
      'chat_template.json',
      'config.json',
      'generation_config.json',
      'merges.txt',
      'model.safetensors',
      'preprocessor_config.json',
      'tokenizer.json',
      'tokenizer_config.json',
      'vocab.json',
    ])
    expect((await readdir(model.folder)).sort()).toEqual(model.files)
    expect(model.downloadedBytes).toBe(model.bytes)
    for (const name of model.files) {
      const { bytes, lfs } = hub.files.get(name)!
      const hash = lfs ? sha256(bytes) : gitHash(bytes)
      expect(await readlink(join(model.folder, name))).toBe(join('..', '..', 'blobs', hash))
      expect((await readFile(join(model.folder, name))).equals(bytes)).toBe(true)
    }
    expect(await readFile(join(layout.refs, 'main'), 'utf8')).toBe(commit)
    expect((await readdir(layout.blobs)).length).toBe(model.files.length)
    expect(await readdir(join(cacheDir, '.locks', 'models--owner--tiny'))).toEqual([])
  })

  test('is not downloaded into again', async () => {
    await downloadModel(hub.id, given())
    hub.seen.length = 0
    const { downloadedBytes } = await downloadModel(hub.id, given())
    expect(downloadedBytes).toBe(0)
    expect(hub.count('hub', '/resolve/') + hub.count('cdn', '')).toBe(0)
  })

  test('keeps what two commits share, and the old commit', async () => {
    const old = await downloadModel(hub.id, given())
    const config = Buffer.from('{"temperature": 0.5}')
    hub.files.set('generation_config.json', { bytes: config, lfs: false })
    hub.revisions.set('main', 'c'.repeat(40))
    const { downloadedBytes, folder } = await downloadModel(hub.id, given())
    expect(downloadedBytes).toBe(config.length)
    expect(await readFile(join(folder, 'generation_config.json'))).toEqual(config)
    expect(existsSync(join(old.folder, 'config.json'))).toBe(true)
    expect(await readFile(join(layout.refs, 'main'), 'utf8')).toBe('c'.repeat(40))
  })

  test('holds plain files where links are not wanted', async () => {
    const settings = { ...(await hubSettings(given())), symlinks: false }
    const model = await download(hub.id, settings)
    for (const name of model.files) {
      expect((await lstat(join(model.folder, name))).isSymbolicLink()).toBe(false)
    }
    const offline = await download(hub.id, { ...settings, offline: true })
    expect(offline.folder).toBe(model.folder)
  })

  test('is enough without the network, by branch and by commit', async () => {
    const { folder } = await downloadModel(hub.id, given())
    hub.seen.length = 0
    const offline = await downloadModel(hub.id, given({ offline: true }))
    expect(offline).toMatchObject({ folder, downloadedBytes: 0, commit })
    expect((await downloadModel(hub.id, given({ offline: true, revision: commit }))).folder).toBe(
      folder,
    )
    expect(hub.seen).toEqual([])
  })

  test.each([
    ['a blob that is gone', async () => rm(layout.blob(sha256(weights())))],
    ['a blob that is too short', async () => writeFile(layout.blob(sha256(weights())), 'x')],
    [
      'a small file that is gone',
      async () => rm(join(layout.snapshot(commit), 'preprocessor_config.json')),
    ],
  ])('with %s is not complete, and is mended', async (_, damage) => {
    const { folder } = await downloadModel(hub.id, given())
    await damage()
    const error = await failure(loadModel(hub.id, given({ offline: true })))
    expect(error).toBeInstanceOf(ModelNotFoundError)
    expect(error.message).toContain(`qwen2-vl download ${hub.id}`)
    await downloadModel(hub.id, given())
    expect((await readFile(join(folder, 'model.safetensors'))).equals(weights())).toBe(true)
    expect((await downloadModel(hub.id, given({ offline: true }))).folder).toBe(folder)
  })
})

describe('loadModel()', () => {
  test('downloads a model, says how far it is, and answers; the next time without the network', async () => {
    const phases = new Set<string>()
    await using model = await loadModel(hub.id, {
      ...given(),
      onProgress: ({ phase }) => void phases.add(phase),
    })
    expect([...phases]).toEqual(['download', 'files', 'weights', 'ready'])
    const image = 'models/qwen2-vl-tiny/images/ocr-hello.png'
    const content = [
      { type: 'image' as const, image },
      { type: 'text' as const, text: 'What does the text say?' },
    ]
    const { text } = await model.generate({ messages: [{ role: 'user', content }] })
    expect(text).toBe('The text says "HELLO".')
    hub.seen.length = 0
    await using again = await loadModel(hub.id, given())
    expect(again.info.folder).toBe(layout.snapshot(commit))
    expect(hub.seen).toEqual([])
  })

  test('says that neither a folder nor a model was found', async () => {
    const error = await failure(loadModel('owner/nothing', given()))
    expect(error).toBeInstanceOf(ModelNotFoundError)
    expect(error.message).toContain(`There is no folder ${join(process.cwd(), 'owner/nothing')}`)
    expect(error.message).toContain(`There is no model owner/nothing at ${hub.endpoint}`)
    expect(error.message).toContain('HF_TOKEN')
    expect(error.status).toBe(404)
  })
})

describe('who may read', () => {
  test('the token goes to the endpoint, never to where it redirects', async () => {
    hub.token = 'hf_secret'
    await downloadModel(hub.id, given({ token: 'hf_secret' }))
    const withToken = (server: string) =>
      hub.seen.filter((request) => request.server === server && request.authorization !== undefined)
    expect(withToken('hub').length).toBeGreaterThan(5)
    expect(hub.count('cdn', '')).toBeGreaterThan(0)
    expect(withToken('cdn')).toEqual([])
  })

  test('a gated model says where its conditions are', async () => {
    Object.assign(hub, { token: 'hf_secret', gated: true })
    const error = await failure(downloadModel(hub.id, given()))
    expect(error).toBeInstanceOf(DownloadError)
    expect(error).toMatchObject({ code: 'ERR_DOWNLOAD_GATED', status: 401, resumable: false })
    expect(error.message).toContain(`${hub.endpoint}/${hub.id}`)
    expect(error.message).toContain('HF_TOKEN')
  })

  test('a private model looks like none', async () => {
    hub.token = 'hf_secret'
    const error = await failure(downloadModel(hub.id, given({ token: 'hf_other' })))
    expect(error).toBeInstanceOf(ModelNotFoundError)
    expect(error.message).not.toContain('hf_other')
  })

  test('a revision that is not there is named', async () => {
    const error = await failure(downloadModel(hub.id, given({ revision: 'v2' })))
    expect(error).toBeInstanceOf(ModelNotFoundError)
    expect(error.message).toContain("no revision 'v2'")
  })

  test('403 is told at once', async () => {
    hub.trouble = (_, response) => {
      response.writeHead(403)
      response.end()
      return true
    }
    const error = await failure(quick())
    expect(error).toMatchObject({ code: 'ERR_DOWNLOAD_FORBIDDEN', status: 403 })
    expect(hub.seen.length).toBe(1)
  })
})

describe('trouble', () => {
  test('429 and 5xx are tried again, after the wait they ask for', async () => {
    const statuses = [429, 503, 500, 502]
    hub.trouble = (_, response) => {
      const status = statuses.pop()
      if (status === undefined) return false
      response.writeHead(status, status === 429 ? { 'retry-after': '0' } : {})
      response.end()
      return true
    }
    expect((await quick()).files.length).toBe(9)
    expect(statuses).toEqual([])
  })

  test('a wait that is too long ends it', async () => {
    hub.trouble = (_, response) => {
      response.writeHead(429, { 'retry-after': '3600' })
      response.end()
      return true
    }
    const error = await failure(quick())
    expect(error).toMatchObject({ code: 'ERR_DOWNLOAD_STATUS', status: 429, resumable: true })
    expect(error.message).toContain('wait 3600 s')
    expect(hub.seen.length).toBe(1)
  })

  test('a server that stays broken is given up', async () => {
    hub.trouble = (_, response) => {
      response.writeHead(500)
      response.end()
      return true
    }
    const error = await failure(quick())
    expect(error).toMatchObject({ status: 500, resumable: true })
    expect(hub.seen.length).toBe(DEFAULT_TIMING.tries)
  })

  test('a connection that breaks again and again costs only what was on its way', async () => {
    let sent = 0
    let broken = 0
    hub.trouble = (request, response, server) => {
      if (server !== 'cdn') return false
      const start = Number(/bytes=(\d+)/.exec(request.headers.range ?? '')?.[1] ?? 0)
      const part = weights().subarray(start, start + 1_500_000)
      sent += part.length
      response.writeHead(start === 0 ? 200 : 206, {
        'content-length': weights().length - start,
        'content-range': `bytes ${start}-${weights().length - 1}/${weights().length}`,
      })
      response.write(part, () => setTimeout(() => response.destroy(), 5))
      broken++
      return start + part.length < weights().length ? true : (response.end(), true)
    }
    await quick()
    expect(broken).toBeGreaterThan(6)
    expect(sent).toBeLessThan(2 * weights().length)
    expect((await readFile(layout.blob(sha256(weights())))).equals(weights())).toBe(true)
  })

  test('a connection that falls silent is given up and made anew', async () => {
    let silent = 2
    hub.trouble = (_, response, server) => {
      if (server !== 'cdn' || silent-- <= 0) return false
      response.writeHead(200, { 'content-length': weights().length })
      response.write(weights().subarray(0, 1000))
      return true // and nothing more
    }
    expect((await quick()).downloadedBytes).toBeGreaterThan(weights().length)
  })

  test('a server that knows no ranges sends all of it', async () => {
    let times = 0
    hub.ignoreRanges = true
    hub.trouble = (_, response, server) => {
      if (server !== 'cdn' || times++ > 0) return false
      response.writeHead(200, { 'content-length': weights().length })
      response.write(weights().subarray(0, 3_000_000), () =>
        setTimeout(() => response.destroy(), 20),
      )
      return true
    }
    await quick()
    expect((await readFile(layout.blob(sha256(weights())))).equals(weights())).toBe(true)
  })

  test('bytes that were changed on the way are thrown away and asked for once more', async () => {
    let times = 0
    const changed = Buffer.from(weights())
    changed[5_000_000]! ^= 1
    hub.trouble = (_, response, server) => {
      if (server !== 'cdn' || times++ > 0) return false
      response.end(changed)
      return true
    }
    await quick()
    expect((await readFile(layout.blob(sha256(weights())))).equals(weights())).toBe(true)
  })

  test('a file that is never what the hub says is kept nowhere', async () => {
    const changed = Buffer.from(weights())
    changed[5_000_000]! ^= 1
    hub.trouble = (_, response, server) => {
      if (server === 'cdn') response.end(changed)
      return server === 'cdn'
    }
    const error = await failure(quick())
    expect(error).toBeInstanceOf(ChecksumError)
    expect(error).toMatchObject({ code: 'ERR_CHECKSUM', resumable: false })
    expect(error.details).toMatchObject({ expected: sha256(weights()), found: sha256(changed) })
    expect(
      (await readdir(layout.blobs)).filter((name) => name.startsWith(sha256(weights()))),
    ).toEqual([])
    expect(await failure(loadModel(hub.id, given({ offline: true })))).toBeInstanceOf(
      ModelNotFoundError,
    )
  })

  test('a small file is checked by its git hash', async () => {
    hub.trouble = (request, response) => {
      if (!request.url?.endsWith('/config.json')) return false
      response.end(Buffer.alloc(hub.files.get('config.json')!.bytes.length, 32))
      return true
    }
    expect(await failure(quick())).toBeInstanceOf(ChecksumError)
  })

  test('a disk that is too small is told before anything is written', async () => {
    hub.trouble = (request, response) => {
      if (!request.url?.includes('/tree/')) return false
      const lfs = { oid: 'd'.repeat(64), size: 2 ** 52 }
      const files = [...hub.files]
        .filter(([, { lfs }]) => !lfs)
        .map(([path, { bytes }]) => ({
          type: 'file',
          path,
          oid: gitHash(bytes),
          size: bytes.length,
        }))
      const big = {
        type: 'file',
        path: 'model.safetensors',
        oid: 'e'.repeat(40),
        size: 2 ** 52,
        lfs,
      }
      response.end(JSON.stringify([...files, big]))
      return true
    }
    const error = await failure(quick())
    expect(error).toMatchObject({ code: 'ERR_DOWNLOAD_DISK_SPACE', resumable: true })
    expect(error.details['requiredBytes']).toBe(2 ** 52)
    expect(hub.count('cdn', '')).toBe(0)
  })

  test.each([
    ['no JSON', 'hello'],
    ['no commit', '{"sha": "../../etc"}'],
    ['nothing', 'null'],
  ])('an endpoint that answers with %s is no hub', async (_, body) => {
    hub.trouble = (_request, response) => (response.end(body), true)
    expect(await failure(quick())).toMatchObject({ code: 'ERR_DOWNLOAD_ANSWER' })
  })

  test('names that lead out of the folder are not followed', async () => {
    const evil = { bytes: Buffer.from('x'), lfs: false }
    for (const name of ['../config.json', '/config.json', 'a\\config.json', '..'])
      hub.files.set(name, evil)
    const { files } = await quick()
    expect(files.length).toBe(9)
    expect(hub.seen.filter(({ path }) => /\.\.|\\/.test(path))).toEqual([])
  })

  test('another architecture is told before its weights come', async () => {
    const config = Buffer.from('{"model_type": "bert", "architectures": ["BertModel"]}')
    hub.files.set('config.json', { bytes: config, lfs: false })
    expect(await failure(quick())).toMatchObject({ code: 'ERR_UNSUPPORTED_MODEL' })
    expect(hub.count('cdn', '')).toBe(0)
  })

  test('shards are those that the index names, and all must be there', async () => {
    const half = weights().length / 2
    hub.files.set('model-1.safetensors', { bytes: weights().subarray(0, half), lfs: true })
    hub.files.set('extra.safetensors', { bytes: weights().subarray(half), lfs: true })
    hub.files.set('adapter_model.safetensors', { bytes: Buffer.alloc(5), lfs: true })
    hub.files.delete('model.safetensors')
    const index = (map: Record<string, string>) =>
      hub.files.set('model.safetensors.index.json', {
        bytes: Buffer.from(JSON.stringify({ weight_map: map })),
        lfs: false,
      })
    index({ a: 'model-1.safetensors', b: 'extra.safetensors' })
    const { files } = await quick()
    expect(files.filter((name) => name.endsWith('.safetensors'))).toEqual([
      'extra.safetensors',
      'model-1.safetensors',
    ])
    index({ a: 'model-1.safetensors', b: 'gone.safetensors' })
    hub.revisions.set('main', 'c'.repeat(40))
    const error = await failure(quick())
    expect(error).toMatchObject({ code: 'ERR_DOWNLOAD_NO_CHECKPOINT' })
    expect(error.message).toContain('gone.safetensors')
    // The revision is still the last one that was complete.
    expect(await layout.commitOf('main')).toBe(commit)
  })
})

test('the weights may have the name that AutoGPTQ gives', async () => {
  const name = 'gptq_model-4bit-128g.safetensors'
  hub.files.set(name, { bytes: weights(), lfs: true })
  hub.files.delete('model.safetensors')
  const { files } = await quick()
  expect(files).toContain(name)
})

describe('the caller', () => {
  test('cancels: what has come stays, the lock does not', async () => {
    hub.pace = { bytes: 200_000, ms: 5 }
    const controller = new AbortController()
    const reason = new Error('enough')
    const onProgress = ({ loadedBytes }: DownloadProgress) => {
      if (loadedBytes > 4_000_000) controller.abort(reason)
    }
    const work = downloadModel(hub.id, { ...given(), signal: controller.signal, onProgress })
    expect(await failure(work)).toBe(reason)
    expect(await readdir(join(cacheDir, '.locks', 'models--owner--tiny'))).toEqual([])
    expect(existsSync(layout.snapshot(commit))).toBe(false)
    hub.pace = undefined
    const { bytes, downloadedBytes } = await downloadModel(hub.id, given())
    expect(bytes - downloadedBytes).toBeGreaterThan(3_000_000)
    expect((await readFile(layout.blob(sha256(weights())))).equals(weights())).toBe(true)
  })

  test('may have a callback that fails', async () => {
    const reason = new Error('from the callback')
    const work = downloadModel(hub.id, {
      ...given(),
      onProgress: () => {
        throw reason
      },
    })
    expect(await failure(work)).toBe(reason)
  })

  test('sees progress that only grows and ends with all', async () => {
    const seen: DownloadProgress[] = []
    hub.pace = { bytes: 500_000, ms: 5 }
    const { bytes } = await downloadModel(hub.id, {
      ...given(),
      onProgress: (p) => void seen.push(p),
    })
    expect(seen[0]).toMatchObject({ phase: 'list', loadedBytes: 0 })
    expect(seen.at(-1)).toMatchObject({
      phase: 'ready',
      loadedBytes: bytes,
      totalBytes: bytes,
      files: [],
    })
    const loaded = seen.map(({ loadedBytes }) => loadedBytes)
    expect(loaded).toEqual([...loaded].sort((a, b) => a - b))
    expect(seen.some(({ files }) => files.at(-1)?.name === 'model.safetensors')).toBe(true)
  })

  test.each(['tiny', 'a/b/c', '../x', 'a--b/c', '', 5])('is told that %j is no id', async (id) => {
    expect(await failure(downloadModel(id as string, given()))).toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    })
  })

  test('is told of misspelt options', async () => {
    const error = await failure(downloadModel(hub.id, { cachedir: 'x' } as object))
    expect(error).toMatchObject({ code: 'ERR_INVALID_ARGUMENT', suggestion: 'cacheDir' })
  })
})

describe('ModelScope', () => {
  test('has its own interface and its own folder in the cache', async () => {
    const model = await downloadModel(hub.id, given({ source: 'modelscope' }))
    expect(model.folder).toBe(
      join(cacheDir, 'modelscope', 'models--owner--tiny', 'snapshots', model.commit),
    )
    expect(model.revision).toBe('master')
    expect(model.files).toContain('model.safetensors')
    expect((await readFile(join(model.folder, 'model.safetensors'))).equals(weights())).toBe(true)
    const again = await downloadModel(hub.id, given({ source: 'modelscope' }))
    expect(again).toMatchObject({ downloadedBytes: 0, commit: model.commit })
    const offline = given({ source: 'modelscope', offline: true })
    expect((await downloadModel(hub.id, offline)).folder).toBe(model.folder)
  })

  test('gives another commit when a file is another', async () => {
    const { commit: before } = await downloadModel(hub.id, given({ source: 'modelscope' }))
    hub.files = await tinyFiles()
    hub.files.set('generation_config.json', { bytes: Buffer.from('{}'), lfs: false })
    const { commit: after } = await downloadModel(hub.id, given({ source: 'modelscope' }))
    expect(after).not.toBe(before)
  })
})
