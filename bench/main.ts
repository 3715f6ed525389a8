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
import { printRows, toRow, type KernelLine, type KernelReport, type Machine } from './report.js'

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
const rows = [...kernels.rows, ...(await benchModel(folder, kernels))]
if (options.json) {
  console.log(JSON.stringify({ ...kernels, rows }, null, 2))
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
  const args = limitsOnly ? ['--json', '--filter', 'none'] : ['--json']
  const output = execFileSync(join(build, 'kernels'), args, {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [machine, ...kernels] = output.toString('utf8').trim().split('\n')
  return {
    ...(JSON.parse(machine!) as Machine),
    rows: kernels.map((line) => toRow(JSON.parse(line) as KernelLine)),
  }
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
