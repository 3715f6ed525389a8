/** The check that every published binary passes: what it needs of the machine, what it shows. */
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { packageRoot } from '../../lib/package-root.js'

const isLinux = process.platform === 'linux'
let folder: string

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'qwen2-vl-prebuilds-'))
})

afterAll(() => {
  rmSync(folder, { recursive: true })
})

/** The problems that are found in a file. */
function problems(target: string, file: string): string {
  const script = join(packageRoot, 'scripts', 'check-prebuilds.mjs')
  const { status, stderr } = spawnSync(process.execPath, [script, target, file], {
    encoding: 'utf8',
  })
  expect(status).toBe(stderr === '' ? 0 : 1)
  return stderr
}

/** Links a library of C++ with all of libstdc++ dynamic and every symbol visible. */
function library(name: string, code: string, ...flags: string[]): string {
  const source = join(folder, `${name}.cpp`)
  writeFileSync(source, code)
  const file = join(folder, `${name}.node`)
  const { stderr, status } = spawnSync(
    process.env['CXX'] ?? 'c++',
    ['-shared', '-fPIC', '-o', file, source, ...flags],
    { encoding: 'utf8' },
  )
  expect([status, stderr]).toEqual([0, ''])
  return file
}

const entries = `extern "C" { void napi_register_module_v1() {} void node_api_module_get_api_version_v1() {} }\n`

describe.skipIf(!isLinux || process.arch !== 'x64')('the check of a binary', () => {
  test('has no word against a small one', () => {
    expect(problems('linux-x64-glibc', library('good', entries, '-s', '-nostdlib'))).toBe('')
  })

  test('finds symbols that show', () => {
    const file = library('shows', `${entries} int leaked = 1;`, '-s', '-nostdlib')
    expect(problems('linux-x64-glibc', file)).toContain('it shows leaked, napi_register_module_v1')
  })

  test('finds a library that not every machine has', () => {
    const file = library('stream', `#include <iostream>\n${entries} auto* out = &std::cout;`, '-s')
    expect(problems('linux-x64-glibc', file)).toContain('it needs libstdc++.so.6')
  })

  test('finds a symbol that is in no library', () => {
    const code = `${entries} extern "C" int of_nobody(); int x = of_nobody();`
    expect(problems('linux-x64-glibc', library('unbound', code, '-s', '-nostdlib'))).toContain(
      'of_nobody belongs to no library',
    )
  })

  test('finds a glibc that is too new, debug symbols, and another processor', () => {
    const code = `#include <unistd.h>\n${entries} extern "C" int close_range(unsigned, unsigned, int);
      int x = close_range(1000000, 1000000, 0);`
    const found = problems('linux-arm64-glibc', library('new', code, '-g'))
    expect(found).toContain('it needs glibc 2.34; 2.28 must do')
    expect(found).toContain('it is not stripped')
    expect(found).toContain('it is for Advanced Micro Devices X86-64, not for arm64')
  })

  test('finds one that has grown', () => {
    const code = `${entries} static const char big[20000000] = {1}; extern "C" const char* p() { return big; }`
    expect(problems('linux-x64-glibc', library('big', code, '-s', '-nostdlib'))).toContain(
      'bytes are more than',
    )
  })
})

describe('the name of a prebuilt file', () => {
  const nodeGypBuild = createRequire(import.meta.url)('node-gyp-build') as {
    resolve(directory: string): string
    parseTags(file: string): Record<string, unknown>
  }

  test.each([
    ['qwen2-vl.glibc.node', 'glibc'],
    ['qwen2-vl.musl.node', 'musl'],
    ['qwen2-vl.node', undefined],
  ])('%s says which C library it is for', (name, libc) => {
    expect(nodeGypBuild.parseTags(name)['libc']).toBe(libc)
    copyFileSync(join(packageRoot, 'package.json'), join(folder, 'package.json'))
  })
})
