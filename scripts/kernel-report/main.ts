#!/usr/bin/env tsx
/**
 * Figures of every CUDA kernel without a GPU: what ptxas says, what a multiprocessor holds, what the
 * simulator counts, and a model of a token's time. Writes docs/kernels.md and docs/kernels.json, and
 * fails when a kernel leaves its limits without being excused in waivers.json.
 *
 *     npm run kernels:report -- [--build <folder>] [--check]
 *
 * The folder is that of the C++ tests, build/tests. With --check nothing is written.
 */
import { execFileSync } from 'node:child_process'
import {
  existsSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { format, resolveConfig } from 'prettier'
import { parseLaunches, parseRepresentatives, pickLaunches } from './counters.js'
import type { Counters, Launch } from './counters.js'
import { writeDocument } from './document.js'
import type { Report } from './document.js'
import { predictions } from '../../lib/bench/decode-model.js'
import { parsePtxas } from './ptxas.js'
import type { KernelResources } from './ptxas.js'
import { applyWaivers, checkCounters, checkOccupancy } from './thresholds.js'
import type { Occupancy, Waiver } from './thresholds.js'

const here = dirname(fileURLToPath(import.meta.url))
const root = join(here, '..', '..')
const { values: options } = parseArgs({
  options: { build: { type: 'string' }, check: { type: 'boolean', default: false } },
})
const build = resolve(options.build ?? join(root, 'build', 'tests'))
const modules = join(build, 'cuda')

const report = makeReport()
if (!options.check) {
  await writeFormatted('kernels.md', writeDocument(report))
  await writeFormatted('kernels.json', JSON.stringify(report))
}
const failures = report.violations.filter(({ waived }) => waived === undefined)
for (const { kernel, arch, metric, value, limit } of failures) {
  const where = arch === undefined ? '' : ` on sm_${arch}`
  console.error(`FAIL ${kernel}${where}: ${metric} ${value.toFixed(2)}, limit ${limit}`)
}
console.log(
  `kernels: ${report.counters.length}, ${report.violations.length - failures.length} figures excused, ${failures.length} failures`,
)
process.exit(failures.length > 0 ? 1 : 0)

function makeReport(): Report {
  const logs = existsSync(modules)
    ? readdirSync(modules).filter((name) => name.endsWith('.ptxas.txt'))
    : []
  if (logs.length === 0) {
    throw new Error(
      `${modules} has no kernels: build the C++ tests with nvcc (npm run test:native)`,
    )
  }
  const resources = logs.flatMap((name) => parsePtxas(readFileSync(join(modules, name), 'utf8')))
  const counters = count()
  const kernels = occupancies(resources, counters)
  const byKernel = new Map(counters.map((one) => [one.kernel, one]))
  const waivers = JSON.parse(readFileSync(join(here, 'waivers.json'), 'utf8')) as Waiver[]
  const violations = [
    ...kernels.flatMap((kernel) => {
      const counted = byKernel.get(kernel.kernel)
      return counted ? checkOccupancy(kernel, counted) : []
    }),
    ...counters.flatMap(checkCounters),
  ]
  return {
    toolkit: toolkitVersion(),
    fatbins: Object.fromEntries(
      logs.map((name) => {
        const family = name.replace('.ptxas.txt', '')
        return [family, statSync(join(modules, `${family}.fatbin`)).size]
      }),
    ),
    kernels,
    counters,
    predictions: predictions((kernel) => byKernel.get(kernel)?.instructionsPerNumber),
    violations: applyWaivers(violations, waivers),
  }
}

/** Runs the representative launches and the kernels' tests on the simulator. */
function count(): Counters[] {
  const folder = mkdtempSync(join(tmpdir(), 'kernel-report-'))
  try {
    const run = (program: string): { launches: Launch[]; output: string } => {
      const lines = join(folder, program)
      const output = execFileSync(join(build, program), {
        encoding: 'utf8',
        env: {
          ...process.env,
          QWEN2_VL_CUDA_DRIVER: join(modules, 'libcuda_simulator.so'),
          QWEN2_VL_CUBLASLT: join(modules, 'libcublaslt_simulator.so'),
          QWEN2_VL_SIM_PTX: modules,
          QWEN2_VL_SIM_ARCH: '80',
          QWEN2_VL_SIM_CHECK: '0',
          QWEN2_VL_SIM_REPORT: lines,
        },
      })
      const launches = existsSync(lines) ? parseLaunches(readFileSync(lines, 'utf8')) : []
      rmSync(lines, { force: true })
      return { launches, output }
    }
    const representative = run('representative_launches')
    const known = parseRepresentatives(representative.output)
    const tests = readdirSync(join(root, 'test', 'cuda', 'kernels'))
      .filter((name) => name.endsWith('_test.cpp'))
      .map((name) => `cuda_${name.replace('.cpp', '')}`)
    // Of each program only the largest launches: all of them are too much to keep.
    const launches = new Map<string, Launch>()
    for (const program of tests) {
      for (const launch of run(program).launches) {
        const other = launches.get(launch.kernel)
        if (!other || launch.instructions > other.instructions) launches.set(launch.kernel, launch)
      }
    }
    return pickLaunches([...launches.values()], known, representative.launches)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function occupancies(resources: KernelResources[], counters: Counters[]): Occupancy[] {
  const byKernel = new Map(counters.map((one) => [one.kernel, one]))
  const launched = resources.map((kernel) => {
    const counted = byKernel.get(kernel.kernel)
    if (!counted) {
      throw new Error(
        `No test launches ${kernel.kernel}, so its block and shared memory are unknown`,
      )
    }
    return { ...kernel, threads: counted.threads, sharedBytes: counted.sharedBytes }
  })
  const input = launched.map((kernel) =>
    [kernel.arch, kernel.registers, kernel.staticShared, kernel.threads, kernel.sharedBytes].join(
      ' ',
    ),
  )
  const output = execFileSync(join(build, 'kernel_occupancy'), {
    input: input.join('\n'),
    encoding: 'utf8',
  }).split('\n')
  return launched.map((kernel, i) => {
    const [blocks, limitedBy = ''] = (output[i] ?? '').split(' ')
    return {
      ...kernel,
      blocks: Number(blocks),
      warps: (Number(blocks) * kernel.threads) / 32,
      limitedBy,
    }
  })
}

function toolkitVersion(): string {
  const nvcc = /QVL_NVCC:FILEPATH=(.*)/.exec(
    readFileSync(join(build, 'CMakeCache.txt'), 'utf8'),
  )?.[1]
  const version = execFileSync(nvcc ?? 'nvcc', ['--version'], { encoding: 'utf8' })
  return `nvcc ${/release [\d.]+, V([\d.]+)/.exec(version)?.[1] ?? 'unknown'}`
}

async function writeFormatted(name: string, text: string): Promise<void> {
  const path = join(root, 'docs', name)
  const config = await resolveConfig(path)
  writeFileSync(path, await format(text, { ...config, filepath: path }))
}
