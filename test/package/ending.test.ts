/**
 * However and whenever a process with a model ends, it ends: it does not hang, it does not crash, it leaves no file
 * behind, and the next process finds the model as it was. The endings of downloads are in test/lib/hub.
 */
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { packageRoot } from '../../lib/package-root.js'

/** How many processes end in all; more through the variable. */
const ENDINGS = Number(process.env['QWEN2_VL_TEST_KILLS'] ?? 24)
/** A process that has not ended by then hangs. */
const HANGS_AFTER_MS = 30_000
/** Long enough for loads, answers and disposals. */
const LONGEST_DELAY_MS = 600

const fixture = fileURLToPath(new URL('./fixtures/ending.mjs', import.meta.url))
const delay = () => Math.floor(Math.random() * LONGEST_DELAY_MS)

interface Ending {
  /** What the process does itself. */
  own: 'killed' | 'exit' | 'throw' | 'finish' | 'worker'
  signal?: NodeJS.Signals
  /** Exit code or signal. */
  expected: (number | NodeJS.Signals)[]
}

const endings: Ending[] = [
  { own: 'killed', signal: 'SIGKILL', expected: ['SIGKILL'] },
  { own: 'killed', signal: 'SIGTERM', expected: ['SIGTERM'] },
  { own: 'killed', signal: 'SIGINT', expected: ['SIGINT'] },
  { own: 'exit', expected: [7] },
  { own: 'exit', signal: 'SIGKILL', expected: [7, 'SIGKILL'] },
  { own: 'throw', expected: [1] },
  { own: 'finish', expected: [0] },
  { own: 'worker', expected: [0] },
]

let base: string
let folder: string
let environment: NodeJS.ProcessEnv
let before: Map<string, string>

beforeAll(() => {
  base = mkdtempSync(join(tmpdir(), 'qwen2-vl-ending-'))
  folder = join(base, 'model')
  cpSync(join(packageRoot, 'models', 'qwen2-vl-tiny'), folder, { recursive: true })
  const home = join(base, 'home')
  mkdirSync(home)
  environment = {
    ...process.env,
    HOME: home,
    USERPROFILE: home,
    TMPDIR: home,
    TMP: home,
    TEMP: home,
  }
  before = hashes()
})

afterAll(() => {
  rmSync(base, { recursive: true, force: true })
})

/** Every file that the processes could have left or changed. */
function hashes(): Map<string, string> {
  const files = readdirSync(base, { recursive: true, encoding: 'utf8' })
    .filter((name) => statSync(join(base, name)).isFile())
    .map((name): [string, string] => [
      name,
      createHash('sha256')
        .update(readFileSync(join(base, name)))
        .digest('hex'),
    ])
  return new Map(files.sort())
}

async function endOne({ own, signal, expected }: Ending): Promise<void> {
  const ms = delay()
  const child = spawn(process.execPath, [fixture, folder, own, String(ms)], {
    cwd: packageRoot,
    env: environment,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stderr = ''
  child.stderr.on('data', (bytes: Buffer) => (stderr += bytes.toString()))
  const closed = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>
  let hangs = false
  const watchdog = setTimeout(() => {
    hangs = true
    child.kill('SIGKILL')
  }, HANGS_AFTER_MS)
  await Promise.race([once(child.stdout, 'data'), closed])
  if (signal) setTimeout(() => child.kill(signal), own === 'killed' ? ms : ms + Math.random() * 20)
  const [code, by] = await closed
  clearTimeout(watchdog)
  const what = `${own} ${signal ?? ''} after ${ms} ms: ${stderr}`
  expect(hangs, `hangs: ${what}`).toBe(false)
  expect(expected, what).toContain(by ?? code)
  if (own !== 'throw') expect(stderr, what).toBe('')
}

describe('a process with a model', () => {
  test(
    `that ends at ${ENDINGS} random moments of loading, answering and disposing leaves nothing behind`,
    { timeout: 60_000 + ENDINGS * 5_000 },
    async () => {
      for (let i = 0; i < ENDINGS; ++i) await endOne(endings[i % endings.length]!)
      expect(hashes()).toEqual(before)
      const code = `import('qwen2-vl').then(async ({ loadModel }) => {
        const model = await loadModel(${JSON.stringify(folder)})
        const { text } = await model.generate({ messages: [{ role: 'user', content: 'Who are you?' }] })
        console.log(text)
      })`
      const { stdout } = spawnSync(process.execPath, ['-e', code], {
        ...{ cwd: packageRoot, env: environment, encoding: 'utf8' },
      })
      expect(stdout).toMatch(/^I am a tiny vision language model/)
    },
  )
})
