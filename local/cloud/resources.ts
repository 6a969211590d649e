/**
 * What the local cloud is made of, as data: what the CDK template says for the real one. A handler's file is
 * relative to the root of the repository and exports `handler`.
 */
export type FunctionResource = {
  handler: string
  timeoutSeconds: number
  /** How its Function URL answers; absent where it has none. */
  url?: 'streaming' | 'buffered'
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

/** By path alone, as a distribution's behaviours are. First match wins. `*` stands for one path segment, or for any rest at the end of the pattern. */
export type Route = { path: string; function: string }

export type Resources = {
  functions: Record<string, FunctionResource>
  queues: Record<string, QueueResource>
  eventSources: EventSourceResource[]
  schedules: ScheduleResource[]
  buckets: string[]
  routes: Route[]
  /** Functions that must succeed, in this order, before the front door opens. */
  startup: string[]
}

const FOURTEEN_DAYS_SECONDS = 14 * 24 * 3600 // the longest that SQS keeps a message

export const resources: Resources = {
  functions: {
    chat: { handler: 'lambdas/handlers/chat.ts', timeoutSeconds: 900, url: 'streaming' },
    api: { handler: 'lambdas/handlers/api.ts', timeoutSeconds: 30, url: 'buffered' },
    persist: { handler: 'lambdas/handlers/persist.ts', timeoutSeconds: 60 },
    maintain: { handler: 'lambdas/handlers/maintain.ts', timeoutSeconds: 240 },
    migrate: { handler: 'lambdas/handlers/migrate.ts', timeoutSeconds: 300 },
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
  },
  eventSources: [
    {
      queue: 'turns',
      function: 'persist',
      batchSize: 1000,
      windowSeconds: 1,
      reportBatchItemFailures: true,
      maxConcurrency: 2, // the least that AWS allows, and all that one machine's database wants
    },
  ],
  schedules: [{ function: 'maintain', everySeconds: 300 }],
  buckets: ['content'],
  routes: [
    { path: '/api/chat', function: 'chat' },
    { path: '/api/chat/*', function: 'chat' },
    { path: '/api/messages/*/regenerate', function: 'chat' },
    { path: '/api/*', function: 'api' },
  ],
  startup: ['migrate'],
}

/** The function that a request is for; undefined where no route matches. */
export function route(routes: Route[], path: string): string | undefined {
  return routes.find((candidate) => matches(candidate.path, path))?.function
}

function matches(pattern: string, path: string): boolean {
  const wanted = pattern.split('/')
  const given = path.split('/')
  const openEnded = wanted.at(-1) === '*'
  if (openEnded ? given.length < wanted.length : given.length !== wanted.length) return false
  return wanted.every((segment, index) => segment === '*' || segment === given[index])
}
