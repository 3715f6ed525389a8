import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { hostname, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { build } from 'tsdown'
import { downloadModel } from '../../../lib/hub/download-model.js'
import { ModelLayout } from '../../../lib/hub/layout.js'
import { acquireLock } from '../../../lib/hub/lock.js'
import { completeSnapshot } from '../../../lib/hub/snapshot.js'
import { packageRoot } from '../../../lib/package-root.js'
import { FakeHub, sha256, tinyFiles } from './fake-hub.js'

/** How often a download is killed; more through the variable. */
const KILLS = Number(process.env['QWEN2_VL_TEST_KILLS'] ?? 24)
const commit = 'a'.repeat(40)
const weights = randomBytes(6_000_000)
const outDir = join(packageRoot, 'build', 'hub-child')

let hub: FakeHub
let cacheDir: string
let layout: ModelLayout

beforeAll(async () => {
  // Once to JavaScript: a process then starts in a fifth of the time.
  await build({
    entry: { child: join(packageRoot, 'test/lib/hub/download-child.ts') },
    outDir,
    platform: 'node',
    format: 'esm',
    logLevel: 'silent',
    config: false,
  })
})

beforeEach(async () => {
  const files = await tinyFiles()
  files.set('model.safetensors', { bytes: weights, lfs: true })
  hub = await FakeHub.start(files)
  cacheDir = await mkdtemp(join(tmpdir(), 'qwen2-vl-hub-'))
  layout = new ModelLayout(cacheDir, hub.id)
})

afterEach(async () => {
  await hub.close()
  await rm(cacheDir, { recursive: true, force: true })
})

function startChild(): ChildProcess {
  const options = { cacheDir, endpoint: hub.endpoint, token: false, connections: 4 }
  return spawn(process.execPath, [join(outDir, 'child.mjs'), hub.id, JSON.stringify(options)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
}

async function outcome(child: ChildProcess): Promise<{ folder: string; downloadedBytes: number }> {
  let output = ''
  child.stdout?.on('data', (bytes: Buffer) => (output += bytes.toString()))
  const [code] = (await once(child, 'close')) as [number | null]
  expect(code).toBe(0)
  return JSON.parse(output.trim().split('\n').at(-1) ?? '') as {
    folder: string
    downloadedBytes: number
  }
}

/** Whatever the kill interrupted: what counts as complete is the model, bit for bit. */
async function expectNothingCorrupt(): Promise<boolean> {
  const folder = await completeSnapshot(layout, commit)
  for (const name of await readdir(layout.blobs).catch(() => [])) {
    if (!/^[0-9a-f]{64}$/.test(name)) continue
    expect(sha256(await readFile(layout.blob(name)))).toBe(name)
  }
  const ref = await layout.commitOf('main')
  // The revision is there only when all its files are.
  if (ref !== undefined) expect(folder).toBeDefined()
  if (folder === undefined) return false
  for (const name of await readdir(folder)) {
    if (name.startsWith('.')) continue
    expect((await readFile(join(folder, name))).equals(hub.files.get(name)!.bytes)).toBe(true)
  }
  return true
}

describe('a process that is killed', () => {
  test(
    `at ${KILLS} random moments leaves nothing corrupt and loses next to nothing`,
    { timeout: 20_000 + KILLS * 3_000 },
    async () => {
      hub.pace = { bytes: 60_000, ms: 3 }
      let kept = 0
      let finished = 0
      for (let i = 0; i < KILLS; i++) {
        const child = startChild()
        const closed = once(child, 'close')
        // The moments are spread over the work itself, not over the start of the process.
        await Promise.race([once(child.stdout!, 'data'), closed])
        await new Promise((resolve) => setTimeout(resolve, Math.random() * 250))
        child.kill('SIGKILL')
        await closed
        if (await expectNothingCorrupt()) {
          finished++
          await rm(layout.folder, { recursive: true })
          kept = 0
          continue
        }
        // What one killed process had, the next one finds.
        const parts = await readFile(layout.parts(sha256(weights)), 'latin1').catch(() => '')
        const bytes = [...parts.matchAll(/^\d+ (\d+)\n/gm)].reduce(
          (sum, [, n]) => sum + Number(n),
          0,
        )
        const isWhole =
          (await stat(layout.blob(sha256(weights))).catch(() => undefined)) !== undefined
        const now = isWhole ? weights.length : bytes
        expect(now).toBeGreaterThanOrEqual(kept)
        kept = now
      }
      hub.pace = undefined
      const options = { cacheDir, endpoint: hub.endpoint, token: false as const }
      const { downloadedBytes } = await downloadModel(hub.id, options)
      expect(downloadedBytes).toBeLessThanOrEqual(weights.length - kept + 1_000_000)
      expect(await expectNothingCorrupt()).toBe(true)
      expect(finished).toBeLessThan(KILLS)
      expect(await readdir(dirname(layout.lockFile))).not.toContain('qwen2-vl.lock')
    },
  )
})

describe('two processes at once', () => {
  test('download a model once', async () => {
    hub.pace = { bytes: 200_000, ms: 5 }
    const results = await Promise.all([outcome(startChild()), outcome(startChild())])
    expect(results[0].folder).toBe(results[1].folder)
    expect(Math.min(...results.map(({ downloadedBytes }) => downloadedBytes))).toBe(0)
    expect(hub.count('cdn', sha256(weights))).toBe(1)
    expect(await expectNothingCorrupt()).toBe(true)
  })
})

describe('the lock', () => {
  const signal = new AbortController().signal
  const foreign = async (owner: object, ageMs = 0) => {
    await mkdir(dirname(layout.lockFile), { recursive: true })
    await writeFile(layout.lockFile, JSON.stringify({ token: 'other', started: 0, ...owner }))
    const then = new Date(Date.now() - ageMs)
    await utimes(layout.lockFile, then, then)
  }
  const timing = { pollMs: 5, touchMs: 20, staleMs: 10_000 }

  test('is one at a time', async () => {
    let inside = 0
    let most = 0
    const work = async () => {
      const lock = await acquireLock(layout.lockFile, signal, undefined, timing)
      most = Math.max(most, ++inside)
      await new Promise((resolve) => setTimeout(resolve, 5))
      inside--
      await lock.release()
    }
    await Promise.all(Array.from({ length: 10 }, work))
    expect(most).toBe(1)
    expect(await readdir(dirname(layout.lockFile))).toEqual([])
  })

  test('of a process that is dead is taken over at once', async () => {
    const child = spawn(process.execPath, ['-e', ''])
    await once(child, 'close')
    await foreign({ pid: child.pid, host: hostname() })
    const lock = await acquireLock(layout.lockFile, signal, () => expect.unreachable(), timing)
    await lock.release()
  })

  test('of an earlier life of this process is taken over', async () => {
    await foreign({ pid: process.pid, host: hostname() })
    await (await acquireLock(layout.lockFile, signal, () => expect.unreachable(), timing)).release()
  })

  test('of another machine is waited for, until nobody has touched it for long', async () => {
    await foreign({ pid: 1, host: 'another.example' })
    const controller = new AbortController()
    const reason = new Error('waited')
    const wait = acquireLock(
      layout.lockFile,
      controller.signal,
      () => controller.abort(reason),
      timing,
    )
    await expect(wait).rejects.toBe(reason)
    await foreign({ pid: 1, host: 'another.example' }, 60_000)
    await (await acquireLock(layout.lockFile, signal, undefined, timing)).release()
  })

  test('tells its owner when it was taken over', async () => {
    const lock = await acquireLock(layout.lockFile, signal, undefined, timing)
    const lost = once(lock.lost, 'abort')
    await foreign({ pid: 1, host: 'another.example' })
    await lost
    await lock.release()
    // The other's stays.
    expect(await readFile(layout.lockFile, 'utf8')).toContain('another.example')
  })
})
