import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/{lib,addon,cli,docs,package,scripts}/**/*.test.ts'],
    // The models of the tests use every core themselves; test files beside each other only fight.
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
})
