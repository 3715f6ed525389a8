import { relative } from 'node:path'
import { defineConfig } from 'tsdown'

const common = {
  target: 'node20.9',
  platform: 'node' as const,
  sourcemap: true,
  dts: true,
  fixedExtension: false,
  logLevel: 'error' as const,
  // Both formats are written at once: neither may clean the other's files away.
  clean: false,
}

export default defineConfig([
  {
    ...common,
    entry: { index: 'lib/index.ts', cli: 'lib/cli/main.ts' },
    format: 'esm',
    // A file for each layer: bundlers leave out those of which a program uses nothing.
    outputOptions: {
      codeSplitting: { groups: [{ name: layerOf }], includeDependenciesRecursively: false },
    },
  },
  // import.meta.url has to be made up in CommonJS.
  { ...common, entry: { index: 'lib/index.ts' }, format: 'cjs', shims: true },
])

function layerOf(file: string): string | null {
  if (file.endsWith('.d.ts')) return null
  const [root, layer, inner] = relative(import.meta.dirname, file).split(/[\\/]/)
  if (root !== 'lib' || !layer || layer === 'index.ts' || layer === 'cli') return null
  return inner === undefined ? layer.replace(/\.ts$/, '') : layer
}
