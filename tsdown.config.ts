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
  { ...common, entry: { index: 'lib/index.ts', cli: 'lib/cli/main.ts' }, format: 'esm' },
  // import.meta.url has to be made up in CommonJS.
  { ...common, entry: { index: 'lib/index.ts' }, format: 'cjs', shims: true },
])
