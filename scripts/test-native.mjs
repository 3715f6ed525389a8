#!/usr/bin/env node
// Builds and runs the C++ tests.
//
//     node scripts/test-native.mjs [--sanitize address,undefined | thread] [--label <layer>...] [--arm64]
//       [--build-only]
//
// With labels only the tests of these layers are built and run. With --arm64 they are built for 64-bit
// ARM Linux and run under emulation, which takes Debian's g++-aarch64-linux-gnu and qemu-user-static.
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
    arm64: { type: 'boolean', default: false },
    'build-only': { type: 'boolean', default: false },
  },
})

const variant = [...(options.arm64 ? ['arm64'] : []), ...options.sanitize.split(',')].filter(
  Boolean,
)
const folder = join(root, 'build', ['tests', ...variant].join('-'))
const labels = options.label
const toolchain = join(root, 'cmake', 'aarch64-linux-gnu.cmake')

// What the sanitizers' reports need of debug information is line numbers.
const buildType = options.sanitize ? 'RelWithDebInfo' : 'Release'
run(
  ...['cmake', '-S', root, '-B', folder],
  // The addon is built by build-native.mjs.
  ...['-DQVL_ADDON=OFF', '-DQVL_TESTS=ON', `-DQVL_SANITIZE=${options.sanitize}`],
  ...(options.arm64 ? [`-DCMAKE_TOOLCHAIN_FILE=${toolchain}`] : []),
  ...[`-DCMAKE_BUILD_TYPE=${buildType}`, '-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -g1 -DNDEBUG'],
)
run(
  ...['cmake', '--build', folder, '--config', buildType],
  ...['--parallel', String(availableParallelism())],
  ...(labels.length > 0 ? ['--target', ...labels.map((label) => `tests_${label}`)] : []),
)
if (options['build-only']) process.exit(0)
run(
  ...['ctest', '--test-dir', folder, '-C', buildType, '--output-on-failure', '--no-tests=error'],
  ...['--parallel', String(availableParallelism())],
  ...(labels.length > 0 ? ['-L', `^(${labels.join('|')})$`] : []),
)

function run(command, ...args) {
  const { status, error } = spawnSync(command, args, { stdio: 'inherit' })
  if (error) console.error(`qwen2-vl: ${command} could not be started: ${error.message}`)
  if (status !== 0) process.exit(status ?? 1)
}
