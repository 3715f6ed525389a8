import { defineConfig } from 'vitest/config'

/** Of scripts/test-cuda.mjs, which sets what stands in for a GPU. */
export default defineConfig({
  test: {
    include: ['test/cuda/**/*.test.ts'],
    fileParallelism: false,
    // A simulated GPU computes about a billion operations a second.
    testTimeout: 300_000,
    hookTimeout: 300_000,
  },
})
