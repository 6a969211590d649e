import { configDefaults, defineConfig } from 'vitest/config'

/** Judges what all others have left behind. */
const LAST = 'test/infrastructure/permissions.test.ts'

export default defineConfig({
  test: {
    // A first start of the embedded Postgres takes seconds on a small machine; a hung test is still found.
    testTimeout: 30_000,
    hookTimeout: 60_000,
    pool: 'forks',
    // Each file brings its own database, queue and processes, and waits for a third of its time: two cores carry three.
    maxWorkers: 3,
    globalSetup: ['test/harness/run.ts', 'test/harness/shared-redis.ts', 'test/harness/real-postgres.ts'],
    setupFiles: ['test/harness/before-each-file.ts'],
    projects: [
      {
        extends: true,
        test: { name: 'tests', include: ['test/**/*.test.ts'], exclude: [...configDefaults.exclude, LAST] },
      },
      { extends: true, test: { name: 'last', include: [LAST], sequence: { groupOrder: 1 } } },
    ],
  },
})
