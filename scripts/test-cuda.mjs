#!/usr/bin/env node
// Runs the tests of device 'cuda' through the public API.
//
//     node scripts/test-cuda.mjs [--gpu [--device <number>]] [<filter>...]
//
// nvcc's own PTX runs on the simulator of test/cuda/sim, which the addon opens in place of NVIDIA's driver
// and cuBLASLt. With --gpu the machine's own driver and a GPU are used instead, and the tests of the kernels,
// which else belong to the C++ tests, run there first.
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const { values: options, positionals } = parseArgs({
  options: { gpu: { type: 'boolean', default: false }, device: { type: 'string' } },
  allowPositionals: true,
})

const env = { ...process.env, QWEN2_VL_TEST_CUDA: options.gpu ? 'gpu' : 'simulator' }
if (options.gpu) {
  // Whatever the shell has left of other runs: a simulator must not pass for a GPU.
  for (const name of Object.keys(env)) {
    if (/^QWEN2_VL_(SIM_|CUDA_DRIVER$|CUBLASLT$)/.test(name)) delete env[name]
  }
  // CUDA counts what it is shown from 0.
  if (options.device !== undefined) env.CUDA_VISIBLE_DEVICES = options.device
}

// The modules inside the addon and the PTX beside the simulator come from one compiler and one list of
// architectures, so that the simulator knows the modules again.
run(process.execPath, join(root, 'scripts', 'build-native.mjs'))
if (options.gpu) {
  sayWhichGpu()
  const folder = buildTests('tests-gpu', ['-DQVL_TEST_GPU=ON'], ['tests_cuda'])
  run('ctest', '--test-dir', folder, '--output-on-failure', '--no-tests=error', '-L', '^gpu$')
} else {
  const targets = ['cuda_simulator', 'cublaslt_simulator', 'qvl_ptx']
  const folder = join(buildTests('tests', [], targets), 'cuda')
  env.QWEN2_VL_CUDA_DRIVER = join(folder, 'libcuda_simulator.so')
  env.QWEN2_VL_CUBLASLT = join(folder, 'libcublaslt_simulator.so')
  env.QWEN2_VL_SIM_PTX = folder
}
run('npx', 'vitest', 'run', '--config', join(root, 'vitest.cuda.config.ts'), ...positionals)

/** Ends the process with what is missing where no GPU can be used. */
function sayWhichGpu() {
  const addon = createRequire(import.meta.url).resolve('../build/Release/qwen2vl.node')
  run(
    ...[process.execPath, '--eval'],
    `require(${JSON.stringify(addon)}).cudaInfo().then(({ usable, reason, devices }) => {
      if (usable) console.log('On ' + devices[0].name + ', compute capability ' + devices[0].computeCapability)
      else console.error('qwen2-vl: no GPU can be used: ' + reason)
      process.exitCode = usable ? 0 : 1
    })`,
  )
}

/** Builds targets of the C++ tests; gives the folder. */
function buildTests(name, definitions, targets) {
  const folder = join(root, 'build', name)
  run(
    ...['cmake', '-S', root, '-B', folder, '-DQVL_ADDON=OFF', '-DQVL_TESTS=ON', '-DQVL_CUDA=ON'],
    ...['-DCMAKE_BUILD_TYPE=Release', ...definitions],
  )
  run(
    ...['cmake', '--build', folder, '--parallel', String(availableParallelism())],
    ...['--target', ...targets],
  )
  return folder
}

function run(command, ...args) {
  const { status, error } = spawnSync(command, args, { cwd: root, env, stdio: 'inherit' })
  if (error) console.error(`qwen2-vl: ${command} could not be started: ${error.message}`)
  if (status !== 0) process.exit(status ?? 1)
}
