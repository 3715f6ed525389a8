/**
 * `npm run bench`: the machine's limits, each kernel against them, then a whole model of 2B size.
 *
 *     npm run bench -- [--model <folder>] [--json] [--skip-kernels]
 *
 * Without --model a checkpoint with random weights is made in build/bench (4.4 GB, half a minute).
 * Every figure stands beside the limit that was measured in the same run.
 */
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { benchModel } from './model.js'
import type { KernelReport, Row } from './report.js'
import { printRows } from './report.js'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')

const { values: options } = parseArgs({
  options: {
    model: { type: 'string' },
    json: { type: 'boolean', default: false },
    'skip-kernels': { type: 'boolean', default: false },
  },
})

const kernels = benchKernels(options['skip-kernels'])
const folder = options.model ?? randomCheckpoint()
const rows: Row[] = [...kernels.rows, ...(await benchModel(folder, kernels.limits))]
if (options.json) {
  console.log(
    JSON.stringify({ processor: kernels.processor, limits: kernels.limits, rows }, null, 2),
  )
} else {
  printRows(kernels, rows)
}

/** Builds and runs bench/native/kernels.cpp. */
function benchKernels(limitsOnly: boolean): KernelReport {
  const build = join(root, 'build', 'bench')
  const cmake = (...args: string[]) =>
    execFileSync('cmake', args, { stdio: ['ignore', 'ignore', 'inherit'] })
  cmake('-S', root, '-B', build, '-DQVL_ADDON=OFF', '-DQVL_BENCH=ON')
  cmake('--build', build, '--target', 'kernels', '--parallel', String(availableParallelism()))
  const args = limitsOnly ? ['--json', '--limits-only'] : ['--json']
  const output = execFileSync(join(build, 'kernels'), args, {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  return JSON.parse(output.toString('utf8')) as KernelReport
}

function randomCheckpoint(): string {
  const folder = join(root, 'build', 'bench', 'qwen2-vl-2b-random')
  if (!existsSync(join(folder, 'model.safetensors.index.json'))) {
    const script = join(root, 'bench', 'random-checkpoint.ts')
    const tsx = join(root, 'node_modules', 'tsx', 'dist', 'cli.mjs')
    execFileSync(process.execPath, [tsx, script, '--preset', '2b', '--out', folder], {
      stdio: 'inherit',
    })
  }
  return folder
}
