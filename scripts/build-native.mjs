#!/usr/bin/env node
// Builds the addon with cmake-js, which knows where Node's headers are. Three callers, one build:
//   npm run build:native                 a developer, and who has no prebuilt binary that fits
//   binding.gyp                          node-gyp
//   scripts/prebuild.mjs                 the binaries that are published
//
//     node scripts/build-native.mjs [--config Release | Debug] [--portable] [--arch <arch>]
//       [--cuda ON | OFF | AUTO] [--toolchain <file of CMake>] [--build-dir <folder>] [--output-dir <folder>]
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { arch as hostArch, availableParallelism } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')

const { values: options } = parseArgs({
  options: {
    config: { type: 'string', default: 'Release' },
    arch: { type: 'string', default: hostArch() },
    portable: { type: 'boolean', default: false },
    cuda: { type: 'string' },
    toolchain: { type: 'string' },
    'build-dir': { type: 'string', default: join(root, 'build', 'cmake') },
    'output-dir': { type: 'string' },
  },
})
const { config } = options
const cmakeJs = findCmakeJs()
requireTools()

const common = ['--directory', root, '--out', resolve(options['build-dir'])]
common.push('--config', config, '--arch', options.arch)
const definitions = { QVL_PORTABLE: options.portable ? 'ON' : 'OFF' }
if (options.cuda) definitions.QVL_CUDA = options.cuda
if (options.toolchain) definitions.CMAKE_TOOLCHAIN_FILE = resolve(options.toolchain)
if (options['output-dir']) definitions.QVL_OUTPUT_DIR = resolve(options['output-dir'])
run('configure', ...common, ...Object.entries(definitions).map((pair) => `--CD${pair.join('=')}`))
run('build', ...common, '--parallel', String(availableParallelism()))

function run(...args) {
  // cmake-js logs through npmlog; its own lines at "info" repeat the whole command line.
  const { status } = spawnSync(process.execPath, [cmakeJs, '--log-level', 'warn', ...args], {
    stdio: 'inherit',
  })
  if (status !== 0) fail(`the ${args[0]} step of the native build failed; its output is above`)
}

function findCmakeJs() {
  const require = createRequire(import.meta.url)
  try {
    require.resolve('node-addon-api')
    return require.resolve('cmake-js/bin/cmake-js')
  } catch {
    fail('a build from source needs two more packages: npm install cmake-js node-addon-api')
  }
}

/** CMake would name these one after another, each in a page of output. */
function requireTools() {
  const missing = []
  if (!isThere('cmake')) missing.push('cmake 3.18 or newer')
  // Visual Studio's compiler and build program need not be on the PATH.
  if (process.platform !== 'win32') {
    const compilers = process.env.CXX ? [process.env.CXX] : ['c++', 'g++', 'clang++']
    if (!options.toolchain && !compilers.some(isThere)) missing.push('a C++20 compiler')
    if (!['ninja', 'make'].some(isThere)) missing.push('make or ninja')
  }
  if (missing.length === 0) return
  const remedies = {
    linux: 'Debian and Ubuntu have it all in: apt-get install cmake g++ make',
    darwin: 'macOS: xcode-select --install && brew install cmake',
    win32: 'Windows: winget install Kitware.CMake Microsoft.VisualStudio.2022.BuildTools',
  }
  const list = missing.join(' and ')
  const remedy = remedies[process.platform]
  fail(`a build from source needs ${list} on the PATH${remedy ? ` (${remedy})` : ''}`)
}

function isThere(command) {
  return spawnSync(command, ['--version'], { stdio: 'ignore' }).error === undefined
}

function fail(reason) {
  console.error(`qwen2-vl: ${reason}.`)
  process.exit(1)
}
