import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // A first start of the embedded Postgres takes seconds on a small machine; a hung test is still found.
    testTimeout: 30_000,
    hookTimeout: 60_000,
    pool: 'forks',
    // Each file brings its own database, queue and processes; two at a time is what two cores carry.
    maxWorkers: 2,
    globalSetup: ['test/harness/real-postgres.ts'],
  },
})
