/** The built package as a program meets it: importing it does nothing yet, and unused parts can be left out. */
import { execFile } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { build } from 'tsdown'
import { describe, expect, test } from 'vitest'
import { packageRoot } from '../../lib/package-root.js'

const folder = join(packageRoot, 'build', 'package-test')

/** Prints what is there after the import and was not before. */
const watch = (importing: string) => `
  const opened = []
  const dlopen = process.dlopen
  process.dlopen = (module, file, ...rest) => { opened.push(file); return dlopen(module, file, ...rest) }
  const state = () => ({
    // zod, a dependency, keeps its registry there.
    globals: Object.getOwnPropertyNames(globalThis).filter((name) => !name.startsWith('__zod_')),
    symbols: Object.getOwnPropertySymbols(globalThis).map(String),
    listeners: process.eventNames().map(String),
    environment: Object.keys(process.env),
    resources: process.getActiveResourcesInfo().filter((name) => name !== 'CloseReq'),
  })
  const before = state()
  ;(async () => {
    const names = Object.keys(${importing})
    const after = state()
    const added = {}
    for (const key of Object.keys(before)) added[key] = after[key].filter((name) => !before[key].includes(name))
    console.log(JSON.stringify({ names: names.includes('loadModel'), opened, ...added }))
  })()`

const nothing = {
  names: true,
  ...{ opened: [], globals: [], symbols: [], listeners: [], environment: [], resources: [] },
}

async function run(...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: packageRoot })
  return stdout
}

describe('importing the package', () => {
  test.each([
    ['as an ES module', "await import('qwen2-vl')"],
    ['as CommonJS', "require('qwen2-vl')"],
  ])('%s loads no binary and leaves nothing behind', async (_, importing) => {
    expect(JSON.parse(await run('-e', watch(importing)))).toEqual(nothing)
  })

  test('is noticed when it does: the watch sees an addon, a global, a listener, a variable and a timer', async () => {
    const noisy = `(process.dlopen({ exports: {} }, ${JSON.stringify(await addon())}), globalThis.leaked = 1,
      process.on('exit', () => {}), process.env.LEAKED = '1', setTimeout(() => {}, 1), { loadModel: 1 })`
    const seen = JSON.parse(await run('-e', watch(noisy))) as typeof nothing
    expect(seen).toEqual({
      ...nothing,
      opened: [await addon()],
      globals: ['leaked'],
      listeners: ['exit'],
      environment: ['LEAKED'],
      resources: ['Timeout'],
    })
  })

  test('gives the same names both ways', async () => {
    const list = 'console.log(Object.keys(m).sort().join())'
    const esm = await run('--input-type=module', '-e', `import * as m from 'qwen2-vl'; ${list}`)
    const cjs = await run('--input-type=commonjs', '-e', `const m = require('qwen2-vl'); ${list}`)
    expect(cjs).toBe(esm)
  })
})

describe('a bundler', () => {
  const bundle = async (name: string, code: string): Promise<string> => {
    await mkdir(folder, { recursive: true })
    const entry = join(folder, `${name}.js`)
    await writeFile(entry, code)
    await build({
      entry: { [name]: entry },
      outDir: join(folder, 'out'),
      platform: 'node',
      format: 'esm',
      logLevel: 'silent',
      config: false,
      deps: { alwaysBundle: ['qwen2-vl'], onlyBundle: false },
    })
    return readFile(join(folder, 'out', `${name}.mjs`), 'utf8')
  }

  test('leaves out what a program does not use', async () => {
    const whole = await bundle('whole', "import * as all from 'qwen2-vl'\nconsole.log(all)\n")
    const part = await bundle(
      'part',
      "import { scaleTo } from 'qwen2-vl'\nconsole.log(scaleTo({ x1: 0, y1: 0, x2: 1, y2: 1 }, { width: 9, height: 9 }))\n",
    )
    const none = await bundle('none', "import 'qwen2-vl'\nconsole.log('none')\n")
    expect(whole.length).toBeGreaterThan(300_000)
    expect(part).not.toContain('node-gyp-build')
    expect(part).not.toContain('loadModel')
    expect(part.length).toBeLessThan(whole.length / 10)
    expect(none.length).toBeLessThan(200)
  })
})

/** The addon that is in use here. */
async function addon(): Promise<string> {
  const code = `console.log(require('node-gyp-build').resolve(${JSON.stringify(packageRoot)}))`
  return (await run('-e', code)).trim()
}
