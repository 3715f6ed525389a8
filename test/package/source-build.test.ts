/** Where no prebuilt binary fits, and where a build from source lacks a tool: one sentence says what to do. */
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { packageRoot } from '../../lib/package-root.js'

let folder: string

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'qwen2-vl-package-'))
})

afterEach(() => {
  rmSync(folder, { recursive: true })
})

/** Runs a script with nothing on the PATH but these programs, which do nothing. */
function runWithTools(script: string, tools: string[]) {
  const bin = join(folder, 'bin')
  mkdirSync(bin)
  symlinkSync(process.execPath, join(bin, 'node'))
  for (const tool of tools) {
    writeFileSync(join(bin, tool), '#!/bin/sh\n')
    chmodSync(join(bin, tool), 0o755)
  }
  const env = { PATH: bin }
  const { status, stdout, stderr } = spawnSync(process.execPath, [script], {
    env,
    encoding: 'utf8',
  })
  return { status, output: stdout + stderr }
}

// Windows finds its compiler without the PATH, and has no scripts of sh.
describe.skipIf(process.platform === 'win32')('a build from source', () => {
  const script = join(packageRoot, 'scripts', 'build-native.mjs')

  test.each([
    [[], 'cmake 3.18 or newer and a C++20 compiler and make or ninja'],
    [['cmake'], 'a C++20 compiler and make or ninja'],
    [['cmake', 'make'], 'a C++20 compiler'],
    [['g++', 'ninja'], 'cmake 3.18 or newer'],
    [['cmake', 'clang++'], 'make or ninja'],
  ])('that finds only %j on the PATH asks for the rest in one sentence', (tools, missing) => {
    const { status, output } = runWithTools(script, tools)
    expect(status).toBe(1)
    expect(output).toMatch(/^qwen2-vl: a build from source needs .*\.\n$/)
    expect(output).toContain(`needs ${missing} on the PATH (`)
  })

  test('without its two packages names them', () => {
    mkdirSync(join(folder, 'scripts'))
    cpSync(script, join(folder, 'scripts', 'build-native.mjs'))
    const { status, output } = runWithTools(join(folder, 'scripts', 'build-native.mjs'), ['cmake'])
    expect(status).toBe(1)
    expect(output).toBe(
      'qwen2-vl: a build from source needs two more packages: npm install cmake-js node-addon-api.\n',
    )
  })
})

describe('the package', () => {
  let copy: string

  const ask = `import('./dist/index.js').then(({ loadModel }) => loadModel('tiny')).then(
    () => console.log('loaded'), ({ code, details, message }) => console.log(JSON.stringify({ code, details, message })))`

  // Below build/, where its dependencies are found.
  beforeEach(() => {
    copy = mkdtempSync(join(packageRoot, 'build', 'no-binary-'))
    for (const name of ['dist', 'models', 'package.json']) {
      cpSync(join(packageRoot, name), join(copy, name), { recursive: true })
    }
  })

  afterEach(() => {
    rmSync(copy, { recursive: true })
  })

  function load() {
    const { stdout } = spawnSync(process.execPath, ['-e', ask], { cwd: copy, encoding: 'utf8' })
    return JSON.parse(stdout) as { code: string; message: string; details: { tried: string } }
  }

  test('without a binary for the machine says how to build one', () => {
    const { code, message } = load()
    expect(code).toBe('ERR_NO_BINARY')
    expect(message).toBe(
      `There is no prebuilt binary for this machine (${process.platform}-${process.arch}): build one with ` +
        `"npm install cmake-js node-addon-api && node ${join(copy, 'scripts', 'build-native.mjs')}", ` +
        'which needs cmake 3.18 and a C++20 compiler.',
    )
  })

  test('with a binary that does not load names it', () => {
    const prebuilds = join(copy, 'prebuilds', `${process.platform}-${process.arch}`)
    mkdirSync(prebuilds, { recursive: true })
    writeFileSync(join(prebuilds, 'qwen2-vl.node'), 'not a library')
    const { code, message, details } = load()
    expect(code).toBe('ERR_NO_BINARY')
    expect(details.tried).toBe(join(prebuilds, 'qwen2-vl.node'))
    expect(message).toMatch(
      /^The binary .*qwen2-vl\.node cannot be loaded here \(.+\): build one with /,
    )
  })
})
