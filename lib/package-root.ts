import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The package's folder: lib/package-root.ts and the bundles in dist/ both sit one level below it. */
export const packageRoot = join(dirname(fileURLToPath(import.meta.url)), '..')
