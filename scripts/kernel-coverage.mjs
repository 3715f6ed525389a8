#!/usr/bin/env node
// Which lines of the CUDA kernels their tests run, on the kernels made by the host's compiler.
//
//     node scripts/kernel-coverage.mjs [<filter>...]
//
// Prints a row for each file and the lines that no test runs. A filter is a part of a file's name, for the
// rows; all tests run.
import { execFileSync, spawnSync } from 'node:child_process'
import { readdirSync, rmSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const folder = join(root, 'build', 'coverage')
const jobs = String(availableParallelism())
const filters = process.argv.slice(2)

run(
  ...['cmake', '-S', root, '-B', folder, '-DQVL_ADDON=OFF', '-DQVL_TESTS=ON', '-DQVL_CUDA=ON'],
  ...['-DQVL_KERNEL_COVERAGE=ON', '-DCMAKE_BUILD_TYPE=Release'],
)
run('cmake', '--build', folder, '--parallel', jobs, '--target', 'tests_cuda')
const counts = counted(join(folder, 'CMakeFiles/host_kernels.dir'))
for (const file of counts()) rmSync(file)
run('ctest', '--test-dir', folder, '-R', '^cuda/.*/host$', '-j', jobs, '--output-on-failure')

/** For every line of a file how often it ran, over all kernels that include the file. */
const lines = new Map()
for (const file of counts()) {
  const output = execFileSync('gcov', ['--json-format', '--stdout', file], {
    cwd: folder,
    maxBuffer: 1 << 30,
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  for (const source of JSON.parse(output.toString()).files) {
    const name = basename(source.file)
    if (!source.file.includes('kernels/cuda/')) continue
    const known = lines.get(name) ?? new Map()
    lines.set(name, known)
    for (const { line_number: line, count } of source.lines) {
      known.set(line, (known.get(line) ?? 0) + count)
    }
  }
}

for (const [name, known] of [...lines].sort()) {
  if (filters.length > 0 && !filters.some((filter) => name.includes(filter))) continue
  const missed = [...known].filter(([, count]) => count === 0).map(([line]) => line)
  const share = (100 * (known.size - missed.length)) / known.size
  const where = missed.length > 0 ? `  not run: ${missed.sort((a, b) => a - b).join(', ')}` : ''
  console.log(`${name.padEnd(28)} ${share.toFixed(1).padStart(5)} % of ${known.size} lines${where}`)
}

/** The files with counts below a folder. */
function counted(below) {
  return () =>
    readdirSync(below, { recursive: true })
      .filter((name) => name.endsWith('.gcda'))
      .map((name) => join(below, name))
}

function run(command, ...args) {
  const { status } = spawnSync(command, args, { cwd: root, stdio: 'inherit' })
  if (status !== 0) process.exit(status ?? 1)
}
