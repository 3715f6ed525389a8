#!/usr/bin/env node
// Takes one barrier, wait, fence, shuffle or .trans out of a kernel's PTX at a time, and runs the kernel's
// test on the simulator: every such change must be noticed. Prints how many were, and names those that were
// not.
//
//     node scripts/mutate-kernels.mjs [--build build/tests] [--arch 80] [--family gemv]... [--every 1]
//         [--entry <part of a kernel's name>] [--kind wait]...
//
// Needs a build with -DQVL_TESTS=ON and nvcc. --every n takes one change of n, evenly spread.
import { execFile } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const { values: options } = parseArgs({
  options: {
    build: { type: 'string', default: join(root, 'build', 'tests') },
    arch: { type: 'string', default: '80' },
    family: { type: 'string', multiple: true, default: [] },
    entry: { type: 'string', default: '' },
    every: { type: 'string', default: '1' },
    kind: { type: 'string', multiple: true, default: [] },
  },
})
const build = resolve(options.build)
const folder = join(build, 'cuda')
const every = Number(options.every)
const suffix = `.compute_${options.arch}.ptx`
const scratch = mkdtempSync(join(tmpdir(), 'qvl-mutants-'))

/** What a line becomes, or undefined when it is none that we change. */
const mutations = [
  {
    kind: 'barrier',
    pattern: /^\s*(@!?%p\d+\s+)?(bar(rier)?\.(cta\.)?sync|bar\.warp\.sync)\b.*;/,
    change: () => '',
  },
  {
    kind: 'wait',
    pattern:
      /^\s*(@!?%p\d+\s+)?(cp\.async\.(wait_group|wait_all|commit_group)|griddepcontrol\.wait)\b.*;/,
    change: () => '',
  },
  {
    kind: 'fence',
    pattern: /^\s*(@!?%p\d+\s+)?(membar|fence)\..*;/,
    change: () => '',
  },
  {
    kind: 'shuffle',
    pattern: /^\s*shfl\.sync\.\w+\.b32\s+(%r\d+)(\|%p\d+)?,\s*([^,]+),.*;/,
    change: (line, match) => `mov.b32 ${match[1]}, ${match[3]};`,
  },
  {
    kind: 'trans',
    pattern: /^\s*(ldmatrix|stmatrix)\..*\.trans\./,
    change: (line) => line.replace('.trans', ''),
  },
]

/** All changes of a file: [{entry, kind, line, source, text}]. */
function mutantsOf(text) {
  const lines = text.split('\n')
  const mutants = []
  const files = new Map()
  for (const [, number, path] of text.matchAll(/^\s*\.file\s+(\d+)\s+"([^"]*)"/gm)) {
    files.set(number, path.split('/').pop())
  }
  let entry = ''
  let source = ''
  lines.forEach((line, index) => {
    const header = /\.entry\s+(\w+)/.exec(line)
    if (header) entry = header[1]
    // Of an inlined function the place that calls it says more.
    const location =
      /^\s*\.loc\s+.*inlined_at\s+(\d+)\s+(\d+)/.exec(line) ??
      /^\s*\.loc\s+(\d+)\s+(\d+)/.exec(line)
    if (location) source = `${files.get(location[1])}:${location[2]}`
    for (const { kind, pattern, change } of mutations) {
      const match = pattern.exec(line)
      if (match && entry)
        mutants.push({ entry, kind, index, source, replacement: change(line, match) })
    }
  })
  return mutants
}

/** The orders in which blocks, warps and copies run that a change is tried in, as in CudaTests.cmake. */
const schedules = [
  {},
  { QWEN2_VL_SIM_ORDER: 'reverse', QWEN2_VL_SIM_COPIES: 'early' },
  { QWEN2_VL_SIM_ORDER: 'random' },
]

function environment(ptx, more = {}) {
  return {
    ...process.env,
    QWEN2_VL_CUDA_DRIVER: join(folder, 'libcuda_simulator.so'),
    QWEN2_VL_CUBLASLT: join(folder, 'libcublaslt_simulator.so'),
    QWEN2_VL_SIM_ARCH: options.arch,
    QWEN2_VL_SIM_PTX: ptx,
    QWEN2_VL_SIM_LOG: '/dev/null',
    ...more,
  }
}

/** Whether the program ends well; two minutes are as bad as failing. */
function passes(program, env) {
  return new Promise((done) => {
    execFile(program, [], { env, timeout: 120_000 }, (error) => done(!error))
  })
}

/** Which test runs which kernels: from the counters of one run each. The quickest first. */
async function kernelsByTest() {
  const tests = []
  for (const name of readdirSync(build)) {
    if (!/^cuda_.*_test$/.test(name)) continue
    const report = join(scratch, `${name}.jsonl`)
    const program = join(build, name)
    const begin = performance.now()
    if (!(await passes(program, environment(folder, { QWEN2_VL_SIM_REPORT: report })))) {
      throw new Error(`${name} fails before anything was changed`)
    }
    const took = performance.now() - begin
    if (!existsSync(report)) continue
    // Copies between host and device have no kernel.
    const lines = readFileSync(report, 'utf8').trim().split('\n')
    const kernels = new Set(lines.map((line) => JSON.parse(line).kernel))
    tests.push({ program, kernels, took })
  }
  return tests.sort((a, b) => a.took - b.took)
}

/** A folder like the build's, in which one family's PTX can be replaced. */
function mutantFolder(worker, family) {
  const path = join(scratch, `${worker}-${family}`)
  if (existsSync(path)) return path
  mkdirSync(path)
  for (const name of readdirSync(folder)) {
    const needed = name.endsWith('.fatbin') || name.endsWith(suffix) || name === 'modules.txt'
    if (needed && name !== `${family}${suffix}`) symlinkSync(join(folder, name), join(path, name))
  }
  return path
}

async function main() {
  const tests = await kernelsByTest()
  const jobs = []
  const uncovered = new Set()
  for (const file of readdirSync(folder).filter((name) => name.endsWith(suffix))) {
    const family = file.slice(0, -suffix.length)
    if (options.family.length > 0 && !options.family.includes(family)) continue
    const text = readFileSync(join(folder, file), 'utf8')
    for (const mutant of mutantsOf(text)) {
      if (!mutant.entry.includes(options.entry)) continue
      if (options.kind.length > 0 && !options.kind.includes(mutant.kind)) continue
      const programs = tests
        .filter(({ kernels }) => kernels.has(mutant.entry))
        .map(({ program }) => program)
      if (programs.length === 0) uncovered.add(mutant.entry)
      jobs.push({ family, text, programs, ...mutant })
    }
  }
  const chosen = jobs.filter((_, index) => index % every === 0)
  console.log(`${chosen.length} of ${jobs.length} changes, compute_${options.arch}`)
  const unnoticed = []
  const totals = new Map()
  let next = 0
  const work = async (worker) => {
    while (next < chosen.length) {
      const job = chosen[next++]
      const path = mutantFolder(worker, job.family)
      const lines = job.text.split('\n')
      lines[job.index] = job.replacement
      writeFileSync(join(path, `${job.family}${suffix}`), lines.join('\n'))
      let noticed = false
      for (const schedule of schedules) {
        for (const program of job.programs) {
          noticed ||= !(await passes(program, environment(path, schedule)))
        }
      }
      const total = totals.get(job.family) ?? { noticed: 0, all: 0 }
      total.all += 1
      if (noticed) total.noticed += 1
      else {
        unnoticed.push(job)
        const where = `${job.source} (line ${job.index + 1} of ${job.family}${suffix})`
        console.log(`not noticed: ${job.kind} of ${job.entry} at ${where}`)
      }
      totals.set(job.family, total)
    }
  }
  await Promise.all(Array.from({ length: availableParallelism() }, (_, worker) => work(worker)))
  for (const [family, { noticed, all }] of totals)
    console.log(`${family}: ${noticed} of ${all} noticed`)
  for (const entry of uncovered) console.log(`no test runs ${entry}`)
  console.log(`${chosen.length - unnoticed.length} of ${chosen.length} noticed`)
  return unnoticed.length === 0 ? 0 : 1
}

try {
  process.exitCode = await main()
} finally {
  rmSync(scratch, { recursive: true, force: true })
}
