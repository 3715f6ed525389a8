#!/usr/bin/env node
// Checks that the arrows between the layers run one way: lib -> addon -> engine -> model -> backend ->
// kernels. Reads every #include "..." and import; prints each one that points upward.
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')

/** What each native layer may include, besides itself. */
const nativeLayers = {
  common: [],
  io: ['common'],
  backend: ['common', 'kernels'],
  'backend/cpu': ['common', 'backend', 'kernels'],
  'backend/cuda': ['common', 'backend', 'kernels'],
  model: ['common', 'io', 'backend'],
  constraint: ['common'],
  engine: ['common', 'io', 'backend', 'model', 'constraint'],
  // The addon creates the backend and the model and hands them to the engine.
  addon: [
    'common',
    'io',
    'backend',
    'backend/cpu',
    'backend/cuda',
    'model',
    'constraint',
    'engine',
  ],
  kernels: [],
}

/** What each folder of lib/ may import; `.` is lib itself. */
const leaf = ['errors', 'suggest', 'recent']
const libLayers = {
  native: ['package-root', 'errors'],
  'package-root': [],
  errors: [],
  suggest: [],
  recent: [],
  tokenizer: leaf,
  checkpoint: [...leaf, 'native', 'tokenizer'],
  processor: [...leaf, 'native', 'checkpoint'],
  grounding: [...leaf, 'native', 'tokenizer', 'processor'],
  constraint: [...leaf, 'native', 'tokenizer'],
  chat: [...leaf, 'tokenizer', 'processor', 'constraint'],
  generation: [
    ...leaf,
    ...['native', 'tokenizer', 'checkpoint', 'processor', 'constraint', 'chat', 'grounding'],
  ],
}

// Models are brought onto the disk without loading one: of the rest, only checkpoints are known.
libLayers.hub = [...leaf, 'package-root', 'checkpoint', 'generation']

const problems = []

for (const file of files(join(root, 'native'), /\.(h|cpp)$/).concat(
  files(join(root, 'kernels'), /\.(h|cpp|cu|cuh)$/),
)) {
  const layer = nativeLayerOf(relative(root, file).replace(/^native\//, ''))
  for (const [, target] of readFileSync(file, 'utf8').matchAll(/^\s*#include\s+"([^"]+)"/gm)) {
    // Device code includes its neighbours by their bare names: nvcc gets no include paths.
    const targetLayer = target.includes('/') ? nativeLayerOf(target) : layer
    if (targetLayer !== layer && !nativeLayers[layer].includes(targetLayer)) report(file, target)
  }
  const includesNapi = /#include\s+<napi\.h>/.test(readFileSync(file, 'utf8'))
  if (includesNapi && layer !== 'addon') report(file, 'napi.h')
}

for (const file of files(join(root, 'lib'), /\.ts$/)) {
  const layer = relative(join(root, 'lib'), file).split('/')[0].replace(/\.ts$/, '')
  const source = readFileSync(file, 'utf8')
  for (const [, target] of source.matchAll(/from\s+'(\.[^']+)'/g)) {
    const targetLayer = relative(join(root, 'lib'), join(dirname(file), target))
      .split('/')[0]
      .replace(/\.js$/, '')
    if (layer in libLayers && targetLayer !== layer && !libLayers[layer].includes(targetLayer))
      report(file, target)
  }
  if (/['"]node-gyp-build['"]/.test(source) && layer !== 'native') report(file, 'node-gyp-build')
}

for (const problem of problems) console.error(problem)
console.log(
  problems.length === 0
    ? 'layers: every arrow points down'
    : `layers: ${problems.length} arrows point up`,
)
process.exit(problems.length === 0 ? 0 : 1)

function nativeLayerOf(path) {
  const parts = path.split('/')
  if (parts.length > 2 && `${parts[0]}/${parts[1]}` in nativeLayers)
    return `${parts[0]}/${parts[1]}`
  return parts[0]
}

function report(file, target) {
  problems.push(`${relative(root, file)} must not reach ${target}`)
}

function files(folder, pattern) {
  return readdirSync(folder, { recursive: true })
    .map((name) => join(folder, name))
    .filter((name) => pattern.test(name))
}
