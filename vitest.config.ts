import { configDefaults, defineConfig } from 'vitest/config'

/** Judges what all others have left behind. */
const LAST = 'test/infrastructure/permissions.test.ts'

export default defineConfig({
  test: {
    // A first start of the embedded Postgres takes seconds on a small machine; a hung test is still found.
    testTimeout: 30_000,
    hookTimeout: 60_000,
    pool: 'forks',
    // Each file brings its own database, queue and processes; two at a time is what two cores carry. With three a run took a
    // sixth less time, and what waits for a moment found it gone more often.
    maxWorkers: 2,
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
