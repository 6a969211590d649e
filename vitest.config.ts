import { configDefaults, defineConfig } from 'vitest/config'
import { COMPILE_CACHE } from './local/compile-cache.ts'

/** Each file's process compiles the same packages. */
Object.assign(process.env, COMPILE_CACHE)

/** Judges what all others have left behind. */
const LAST = 'test/infrastructure/permissions.test.ts'

/**
 * They change nothing outside of themselves, so one process runs them one after the other: CDK and its rules, which take
 * four seconds to load, are loaded once.
 */
const TOGETHER = [
  'test/unit/**/*.test.ts',
  'test/infrastructure/{cloudformation,observability,ops-variables,physical-values,policies,rules,settings,stacks}.test.ts',
]

/** They wait for half of their time and more: for leases, restarts, services that do not answer. */
const WAITING = [
  'test/drills/{cache-faults,ended-logins,frozen-writers,killed-functions,killed-jobs,killed-machine}.test.ts',
  'test/drills/{killed-nodes,killed-steps,memory,restored-archive}.test.ts',
  'test/drills/{postgres-outage,refusing-services,switched-phases}.test.ts',
  'test/contract/{aws-call,event-source-mapping,limiter,twin-turns,valkey,valkey-limiter}.test.ts',
  'test/handlers/{chat,dead-letters,erasures,exports,long-exports,metrics,model-faults,phase-two}.test.ts',
  'test/handlers/{request-order,resume,turn-calls}.test.ts',
  'test/infrastructure/wiring.test.ts',
  'test/journeys/{crash,smoke,status-measured}.test.ts',
]

/** Four of these use as much of a machine as two others. The long drills wait less, and their counts are for two. */
const WAITING_WORKERS = process.env.DRILLS === 'long' ? 2 : 4

export default defineConfig({
  test: {
    // A first start of the embedded Postgres takes seconds on a small machine; a hung test is still found.
    testTimeout: 30_000,
    hookTimeout: 60_000,
    pool: 'forks',
    // Each file brings its own database, queue and processes; two at a time is what two cores carry. With three what waits for a
    // moment found it gone more often.
    maxWorkers: 2,
    globalSetup: ['test/harness/run.ts', 'test/harness/shared-redis.ts', 'test/harness/real-postgres.ts'],
    setupFiles: ['test/harness/before-each-file.ts'],
    projects: [
      {
        extends: true,
        test: { name: 'waiting', include: WAITING, maxWorkers: WAITING_WORKERS, sequence: { groupOrder: 0 } },
      },
      {
        extends: true,
        test: {
          name: 'tests',
          include: ['test/**/*.test.ts'],
          exclude: [...configDefaults.exclude, LAST, ...TOGETHER, ...WAITING],
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: { name: 'together', include: TOGETHER, isolate: false, sequence: { groupOrder: 1 } },
      },
      { extends: true, test: { name: 'last', include: [LAST], sequence: { groupOrder: 2 } } },
    ],
  },
})
