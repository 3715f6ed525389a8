#!/usr/bin/env node
// Runs the tests of device 'cuda' through the public API.
//
//     node scripts/test-cuda.mjs [--gpu] [<filter>...]
//
// nvcc's own PTX runs on the simulator of test/cuda/sim, which the addon opens in place of NVIDIA's driver
// and cuBLASLt; with --gpu the machine's own driver and GPU are used instead.
import { spawnSync } from 'node:child_process'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const { values: options, positionals } = parseArgs({
  options: { gpu: { type: 'boolean', default: false } },
  allowPositionals: true,
})

// The modules inside the addon and the PTX beside the simulator come from one compiler and one list of
// architectures, so that the simulator knows the modules again.
let env = process.env
run(process.execPath, join(root, 'scripts', 'build-native.mjs'))
env = { ...process.env, QWEN2_VL_TEST_CUDA: options.gpu ? 'gpu' : 'simulator' }
if (!options.gpu) {
  const folder = join(root, 'build', 'tests')
  run(
    ...['cmake', '-S', root, '-B', folder, '-DQVL_ADDON=OFF', '-DQVL_TESTS=ON'],
    ...['-DQVL_CUDA=ON', '-DCMAKE_BUILD_TYPE=Release'],
  )
  run(
    ...['cmake', '--build', folder, '--parallel', String(availableParallelism())],
    ...['--target', 'cuda_simulator', 'cublaslt_simulator', 'qvl_ptx'],
  )
  env.QWEN2_VL_CUDA_DRIVER = join(folder, 'cuda', 'libcuda_simulator.so')
  env.QWEN2_VL_CUBLASLT = join(folder, 'cuda', 'libcublaslt_simulator.so')
  env.QWEN2_VL_SIM_PTX = join(folder, 'cuda')
}
run('npx', 'vitest', 'run', '--config', join(root, 'vitest.cuda.config.ts'), ...positionals)

function run(command, ...args) {
  const { status, error } = spawnSync(command, args, { cwd: root, env, stdio: 'inherit' })
  if (error) console.error(`qwen2-vl: ${command} could not be started: ${error.message}`)
  if (status !== 0) process.exit(status ?? 1)
}
