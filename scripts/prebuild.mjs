#!/usr/bin/env node
// Builds the binaries that are published, and checks them:
//
//     npm run build:prebuilds [-- [--cuda] linux-x64 linux-arm64 …]
//
// Without names: this machine's own, and on Linux x64 also linux-arm64 where Debian's
// g++-aarch64-linux-gnu is installed. Each ends in prebuilds/<platform>-<arch>/, under the name that
// node-gyp-build looks for; beside it a JSON file says its size, its hash and what it needs. CUDA
// kernels are embedded where nvcc is found; --cuda makes it an error when it is not.
import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { inspectBinary, problemsOf } from './lib/binary.mjs'
import { binaryName, hostTarget, parseTarget, recordOf, root } from './lib/prebuilds.mjs'

const arm64Toolchain = join(root, 'cmake', 'aarch64-linux-gnu.cmake')
const toolchains = { 'linux-arm64-glibc': arm64Toolchain }

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { cuda: { type: 'boolean', default: false } },
})
const host = hostTarget()
const targets = positionals.length > 0 ? positionals.map(parseTarget) : defaultTargets()
for (const target of targets) {
  const { bytes, needs, cudaBytes } = build(target)
  const cuda = cudaBytes ? `, of it ${megabytes(cudaBytes)} CUDA kernels` : ''
  const name = binaryName(target)
  console.log(`prebuilds/${name}: ${megabytes(bytes)}${cuda}; needs ${needs.join(', ')}`)
}

function build(target) {
  const { platform, arch, libc } = target
  const isHost = platform === host.platform && arch === host.arch && libc === host.libc
  const toolchain = isHost ? undefined : toolchains[`${platform}-${arch}-${libc}`]
  if (!isHost && !toolchain) {
    fail(`${platform}-${arch} is built on such a machine; .github/workflows/prebuild.yml does it`)
  }
  const buildDir = join(root, 'build', `prebuild-${platform}-${arch}-${libc}`)
  const outputDir = join(buildDir, 'out')
  rmSync(outputDir, { recursive: true, force: true })
  run(
    ...['scripts/build-native.mjs', '--portable', '--arch', arch],
    ...['--build-dir', buildDir, '--output-dir', outputDir],
    ...(toolchain ? ['--toolchain', toolchain] : []),
    ...(options.cuda && isHost ? ['--cuda', 'ON'] : []),
  )
  const name = binaryName(target)
  const path = join(root, 'prebuilds', name)
  mkdirSync(join(path, '..'), { recursive: true })
  cpSync(join(outputDir, 'qwen2vl.node'), path)
  const facts = inspectBinary(path, platform)
  const problems = problemsOf(facts, target)
  for (const problem of problems) console.error(`prebuilds/${name}: ${problem}`)
  if (problems.length > 0) process.exit(1)
  const { bytes, sha256, needs, glibc } = facts
  const cudaBytes = bytesOfCuda(join(buildDir, 'cuda'))
  const record = { bytes, sha256, needs, ...(glibc && { glibc }), ...(cudaBytes && { cudaBytes }) }
  writeFileSync(recordOf(path), `${JSON.stringify(record, null, 2)}\n`)
  return record
}

/** Of the compressed kernels that the binary embeds. */
function bytesOfCuda(folder) {
  if (!statSync(folder, { throwIfNoEntry: false })) return 0
  const files = readdirSync(folder).filter((name) => name.endsWith('.fatbin'))
  return files.reduce((sum, name) => sum + statSync(join(folder, name)).size, 0)
}

function defaultTargets() {
  const own = [host]
  if (host.platform !== 'linux' || host.arch !== 'x64') return own
  const { error } = spawnSync('aarch64-linux-gnu-g++', ['--version'], { stdio: 'ignore' })
  if (!error) return [...own, parseTarget('linux-arm64')]
  console.log('linux-arm64 is left out: apt-get install g++-aarch64-linux-gnu')
  return own
}

function run(...args) {
  const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' })
  if (status !== 0) process.exit(status ?? 1)
}

function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(2)} MB`
}

function fail(reason) {
  console.error(`qwen2-vl: ${reason}.`)
  process.exit(1)
}
