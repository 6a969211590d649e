/**
 * What an environment is made of, as data: the stacks make it in AWS, and the cloud on one machine is made of the
 * same. A handler's file is relative to the root of the repository and exports `handler`.
 */
export type FunctionResource = {
  handler: string
  timeoutSeconds: number
  /** How its Function URL answers; absent where it has none. */
  url?: 'streaming' | 'buffered'
}

/** CPU comes with memory: 1,769 MB are one core. */
type Deployed = {
  functions: Record<string, FunctionResource & { memoryMb: number; nodeOptions?: string }>
}

export type QueueResource = {
  visibilitySeconds: number
  retentionSeconds: number
  deadLetters?: { queue: string; maxReceiveCount: number }
}

export type EventSourceResource = {
  queue: string
  function: string
  batchSize: number
  windowSeconds: number
  reportBatchItemFailures: boolean
  maxConcurrency: number
}

export type ScheduleResource = { function: string; everySeconds: number }

/**
 * By path alone, as a distribution's behaviours are. First match wins. `*` stands for one path segment, or for any rest at the
 * end of the pattern.
 */
export type Route = { path: string; function: string }

export type Resources = {
  functions: Record<string, FunctionResource>
  queues: Record<string, QueueResource>
  eventSources: EventSourceResource[]
  schedules: ScheduleResource[]
  buckets: string[]
  routes: Route[]
  /** Functions that must succeed, in this order, before any other is used. */
  startup: string[]
}

const FOURTEEN_DAYS_SECONDS = 14 * 24 * 3600 // the longest that SQS keeps a message

export const resources: Resources & Deployed = {
  functions: {
    // Streams as long as Lambda lets it; a core's share that parses and logs tokens without falling behind.
    chat: { handler: 'lambdas/handlers/chat.ts', timeoutSeconds: 900, memoryMb: 1024, url: 'streaming' },
    // The database may take 20 s to wake up.
    api: { handler: 'lambdas/handlers/api.ts', timeoutSeconds: 30, memoryMb: 512, url: 'buffered' },
    // A statement may take 45 s. A batch is at most 6 MB, held a few times over while it is parsed and split.
    persist: { handler: 'lambdas/handlers/persist.ts', timeoutSeconds: 60, memoryMb: 512 },
    // Ends before its next run begins.
    maintain: { handler: 'lambdas/handlers/maintain.ts', timeoutSeconds: 240, memoryMb: 512 },
    // As long as there is: it stops by itself before, and goes on the next day. It holds some 100 MB at a time.
    archive: {
      handler: 'lambdas/handlers/archive.ts',
      timeoutSeconds: 900,
      memoryMb: 512,
      // What it reads is soon thrown away: a large nursery would be full of it, some 80 MB of nothing.
      nodeOptions: '--max-semi-space-size=4',
    },
    // As long as there is: what is left is done in another run. An export holds a part of its object, a few times over.
    jobs: { handler: 'lambdas/handlers/jobs.ts', timeoutSeconds: 900, memoryMb: 512 },
    // Many statements, one call each, of which none takes longer than 45 s.
    migrate: { handler: 'lambdas/handlers/migrate.ts', timeoutSeconds: 300, memoryMb: 256 },
    // Four short steps, one invocation each; the database may have to wake up.
    rotate: { handler: 'lambdas/handlers/rotate.ts', timeoutSeconds: 60, memoryMb: 256 },
  },
  queues: {
    'turns-dead': { visibilitySeconds: 30, retentionSeconds: FOURTEEN_DAYS_SECONDS },
    turns: {
      visibilitySeconds: 90, // longer than persist's timeout, or a batch would come back while it is saved
      retentionSeconds: FOURTEEN_DAYS_SECONDS,
      // The most that SQS allows: what can never be saved is moved by persist itself, at once and with its reason,
      // and an outage of the database must not use up a good record's receives.
      deadLetters: { queue: 'turns-dead', maxReceiveCount: 1000 },
    },
    'jobs-dead': { visibilitySeconds: 30, retentionSeconds: FOURTEEN_DAYS_SECONDS },
    jobs: {
      visibilitySeconds: 960, // longer than the function's timeout; one that fails has it come back sooner
      retentionSeconds: FOURTEEN_DAYS_SECONDS,
      deadLetters: { queue: 'jobs-dead', maxReceiveCount: 5 }, // MAX_RECEIVES in lambdas/rights/jobs.ts
    },
  },
  eventSources: [
    {
      queue: 'turns',
      function: 'persist',
      batchSize: 1000,
      windowSeconds: 1,
      reportBatchItemFailures: true,
      maxConcurrency: 2, // the least that AWS allows, and all that one small database wants
    },
    {
      queue: 'jobs',
      function: 'jobs',
      batchSize: 1, // each may take as long as the function has
      windowSeconds: 0,
      reportBatchItemFailures: true,
      maxConcurrency: 2,
    },
  ],
  schedules: [
    { function: 'maintain', everySeconds: 300 },
    { function: 'archive', everySeconds: 24 * 3600 },
  ],
  buckets: ['content'],
  routes: [
    { path: '/api/chat', function: 'chat' },
    { path: '/api/chat/*', function: 'chat' },
    { path: '/api/messages/*/regenerate', function: 'chat' },
    { path: '/api/*', function: 'api' },
  ],
  startup: ['migrate'],
}
