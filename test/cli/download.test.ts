import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { progressPrinter } from '../../lib/cli/progress-bars.js'
import { packageRoot } from '../../lib/package-root.js'
import { FakeHub } from '../lib/hub/fake-hub.js'

let hub: FakeHub
let home: string

beforeEach(async () => {
  hub = await FakeHub.start()
  home = await mkdtemp(join(tmpdir(), 'qwen2-vl-cli-'))
})

afterEach(async () => {
  await hub.close()
  await rm(home, { recursive: true, force: true })
})

function run(...args: string[]) {
  const cli = join(packageRoot, 'lib', 'cli', 'main.ts')
  const env = { ...process.env, HF_HOME: home, HF_ENDPOINT: hub.endpoint }
  return promisify(execFile)(process.execPath, ['--import', 'tsx', cli, ...args], { env })
}

test('download prints the folder on stdout, and plain lines on a stderr that is piped', async () => {
  const { stdout, stderr } = await run('download', hub.id)
  expect(stdout).toBe(`${join(home, 'hub/models--owner--tiny/snapshots', 'a'.repeat(40))}\n`)
  expect(stderr).toContain('owner/tiny: complete 10.7 MiB of 10.7 MiB\n')
  expect(stderr).not.toContain('\x1b')
  expect(await run('download', hub.id, '--offline', '--quiet')).toEqual({ stdout, stderr: '' })
})

test('download of a model that is not there fails with the way out', async () => {
  const error = await run('download', 'owner/none').catch((thrown: unknown) => thrown)
  expect(error).toMatchObject({ code: 1, stdout: '' })
  expect((error as { stderr: string }).stderr).toContain('HF_TOKEN')
})

test('models lists what is in the cache and removes it', async () => {
  expect(await run('models')).toEqual({
    stdout: '',
    stderr: 'There are no models in the cache.\n',
  })
  await run('download', hub.id, '--quiet')
  const line = `owner/tiny\t${'a'.repeat(12)} main\t10.7 MiB\tcomplete\n`
  expect(await run('models')).toEqual({ stdout: line, stderr: '' })
  const [model] = JSON.parse((await run('models', 'list', '--json')).stdout) as unknown[]
  expect(model).toMatchObject({ id: 'owner/tiny', complete: true, revisions: ['main'] })
  expect((await run('models', 'remove', 'owner/tiny')).stdout).toBe('owner/tiny: 10.7 MiB freed\n')
  expect((await run('models', '--json')).stdout).toBe('[]\n')
  const error = await run('models', 'remove', 'owner/tiny').catch((thrown: unknown) => thrown)
  expect(error).toMatchObject({ code: 1, stdout: '' })
  expect((error as { stderr: string }).stderr).toMatch(/not in the cache.*\[ERR_MODEL_NOT_FOUND\]/)
})

test('a terminal gets a bar for each file and one for all, drawn over each other', () => {
  let text = ''
  let now = 0
  const stream = { isTTY: true, columns: 120, write: (part: string) => (text += part) }
  const printer = progressPrinter(stream, 'owner/tiny', () => now)
  const file = { name: 'model.safetensors', loadedBytes: 0, totalBytes: 100 * 1024 }
  const progress = { phase: 'download' as const, loadedBytes: 0, totalBytes: 200 * 1024 }
  printer.show({ ...progress, files: [file] })
  now = 1000
  text = ''
  printer.show({
    ...progress,
    loadedBytes: 50 * 1024,
    files: [{ ...file, loadedBytes: 50 * 1024 }],
  })
  const lines = text.split('\n')
  expect(lines[0]).toMatch(/^\x1b\[2Amodel\.safetensors .*█{12}░{12}  50 %  50\.0 KiB\/100 KiB/)
  expect(lines[1]).toMatch(
    /^owner\/tiny .*█{6}░{18}  25 %  50\.0 KiB\/200 KiB {2}50\.0 KiB\/s, 3 s left/,
  )
})
