#!/usr/bin/env node
// Builds the addon into build/<config>/ with cmake-js. Three callers, one build:
//   npm run build:native            a developer
//   binding.gyp                     node-gyp, hence node-gyp-build's fallback
//   prebuildify --node-gyp <this>   called as `rebuild --target=… --arch=… --release`
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { rmSync } from 'node:fs'
import { arch as hostArch, availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    config: { type: 'string', default: 'Release' },
    arch: { type: 'string', default: hostArch() },
    portable: { type: 'boolean', default: 'PREBUILD_ARCH' in process.env },
    debug: { type: 'boolean' },
    // Passed by prebuildify; one Node-API build serves every Node version.
    release: { type: 'boolean' },
    target: { type: 'string' },
    devdir: { type: 'string' },
  },
})
const config = options.debug ? 'Debug' : options.config
const out = join(root, 'build', 'cmake')

const cmakeJs = resolveCmakeJs()
requireTool('cmake', 'cmake 3.18 or newer')
if (positionals[0] === 'rebuild') rmSync(out, { recursive: true, force: true })

const common = ['--directory', root, '--out', out, '--config', config, '--arch', options.arch]
run('configure', ...common, `--CDQVL_PORTABLE=${options.portable ? 'ON' : 'OFF'}`)
run('build', ...common, '--parallel', String(availableParallelism()))

function run(...args) {
  // cmake-js logs through npmlog; its own lines at "info" repeat the whole command line.
  const { status } = spawnSync(process.execPath, [cmakeJs, '--log-level', 'warn', ...args], {
    stdio: 'inherit',
  })
  if (status !== 0) fail(`the ${args[0]} step of the native build failed; its output is above`)
}

function resolveCmakeJs() {
  const require = createRequire(import.meta.url)
  try {
    require.resolve('node-addon-api')
    return require.resolve('cmake-js/bin/cmake-js')
  } catch {
    fail('a build from source needs two more packages: npm install cmake-js node-addon-api')
  }
}

function requireTool(command, what) {
  const { error } = spawnSync(command, ['--version'], { stdio: 'ignore' })
  if (error) fail(`a build from source needs ${what} on the PATH (and a C++20 compiler)`)
}

function fail(reason) {
  console.error(`qwen2-vl: ${reason}.`)
  process.exit(1)
}
