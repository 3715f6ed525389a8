import { defineConfig } from 'tsdown'

export default defineConfig([
  {
    entry: { index: 'lib/index.ts' },
    format: ['esm', 'cjs'],
    target: 'node20.9',
    platform: 'node',
    dts: true,
    sourcemap: true,
    shims: true, // import.meta.url in the CJS output
    fixedExtension: false,
  },
  {
    entry: { 'cli/main': 'lib/cli/main.ts' },
    format: ['esm'],
    target: 'node20.9',
    platform: 'node',
    dts: false,
    sourcemap: true,
    fixedExtension: false,
    clean: false,
  },
])
