#!/usr/bin/env node
// Builds and runs the C++ tests.
//
//     node scripts/test-native.mjs [--sanitize address,undefined | thread] [--label <layer>...]
import { spawnSync } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')

const { values: options } = parseArgs({
  options: {
    sanitize: { type: 'string', default: '' },
    label: { type: 'string', multiple: true, default: [] },
  },
})

const folder = join(
  root,
  'build',
  `tests${options.sanitize && `-${options.sanitize.replace(',', '-')}`}`,
)
const labels = options.label.length > 0 ? ['-L', options.label.join('|')] : []

// RelWithDebInfo keeps -O2 and gives the sanitizers' reports line numbers.
const buildType = options.sanitize ? 'RelWithDebInfo' : 'Release'
run(
  'cmake',
  '-S',
  root,
  '-B',
  folder,
  '-DQVL_ADDON=OFF',
  '-DQVL_TESTS=ON',
  `-DQVL_SANITIZE=${options.sanitize}`,
  `-DCMAKE_BUILD_TYPE=${buildType}`,
)
run('cmake', '--build', folder, '--config', buildType, '--parallel', String(availableParallelism()))
run(
  'ctest',
  '--test-dir',
  folder,
  '-C',
  buildType,
  '--output-on-failure',
  '--no-tests=error',
  ...labels,
)

function run(command, ...args) {
  const { status, error } = spawnSync(command, args, { stdio: 'inherit' })
  if (error) console.error(`qwen2-vl: ${command} could not be started: ${error.message}`)
  if (status !== 0) process.exit(status ?? 1)
}
