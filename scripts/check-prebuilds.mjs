#!/usr/bin/env node
// Checks the binaries in prebuilds/ against their records and against what they may need and show:
//
//     npm run check:prebuilds [-- --complete]
//
// --complete: every platform of a release must be there, with CUDA where it belongs. Given a target and a file, it checks that file:
//
//     node scripts/check-prebuilds.mjs linux-x64-glibc build/Release/qwen2vl.node
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { inspectBinary, problemsOf } from './lib/binary.mjs'
import {
  binaryName,
  hostTarget,
  parseTarget,
  recordOf,
  releaseTargets,
  root,
} from './lib/prebuilds.mjs'

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { complete: { type: 'boolean', default: false } },
})

/** The one with CUDA kernels inside. */
const cudaBinary = binaryName({ platform: 'linux', arch: 'x64', libc: 'glibc' })

const problems = []
let checked = 0

if (positionals.length > 0) {
  const [target, file] = positionals
  check(file, parseTarget(target))
} else {
  checkFolder()
}
for (const problem of problems) console.error(problem)
const count = `${checked} ${checked === 1 ? 'binary' : 'binaries'}`
console.log(problems.length === 0 ? `prebuilds: ${count}, no problem` : 'prebuilds: not right')
process.exit(problems.length === 0 ? 0 : 1)

function checkFolder() {
  const host = binaryName(hostTarget())
  for (const target of releaseTargets) {
    const name = binaryName(target)
    const file = join(root, 'prebuilds', name)
    if (!existsSync(file)) {
      if (options.complete) problems.push(`prebuilds/${name} is missing`)
      continue
    }
    // Only the tools of the platform itself read its files.
    const isReadable = target.platform === 'linux' || target.platform === process.platform
    const facts = check(file, isReadable ? target : { ...target, platform: 'foreign' })
    const record = readRecord(file)
    if (facts.sha256 !== record.sha256) {
      problems.push(`prebuilds/${name} is not what ${recordOf(name)} describes: build it again`)
    }
    if (options.complete && name === cudaBinary && !record.cudaBytes) {
      problems.push(`prebuilds/${name} holds no CUDA kernels: build it where nvcc is`)
    }
    if (name === host) checkLoads(file)
  }
}

function readRecord(file) {
  const path = recordOf(file)
  return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : {}
}

function check(file, target) {
  checked++
  const facts = inspectBinary(file, target.platform)
  for (const problem of problemsOf(facts, target)) problems.push(`${file}: ${problem}`)
  return facts
}

/** With every symbol bound at once, in a process of its own. */
function checkLoads(file) {
  const code = `console.log(require(${JSON.stringify(file)}).limitNames().length > 0)`
  const env = { ...process.env, LD_BIND_NOW: '1' }
  const { stdout, stderr } = spawnSync(process.execPath, ['-e', code], { env, encoding: 'utf8' })
  if (stdout.trim() !== 'true') problems.push(`${file} does not load: ${stderr.trim()}`)
}
