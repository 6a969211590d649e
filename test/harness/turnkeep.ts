/** The whole product on this machine, for tests: the cloud in this process, the functions in processes of their own. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { resolve } from 'node:path'
import pg from 'pg'
import { describe } from 'vitest'
import { type Resources, resources } from '../../lib/resources.ts'
import { type Cloud, type CloudOptions, startCloud } from '../../local/cloud/cloud.ts'
import { COMPILE_CACHE } from '../../local/compile-cache.ts'
import { type ApiClient, clientOf, type Identity } from './client.ts'
import { migratedDump, migratedTemplate } from './migrated.ts'
import { createDatabase, startPostgresServer } from './postgres-server.ts'
import { record } from './recorded-calls.ts'
import { type Redis, redisAvailable, startRedis, variablesOf, whyNoRedis } from './redis.ts'

const FUNCTIONS = resolve(import.meta.dirname, '../../local/functions/main.ts')

export interface TurnkeepOptions extends CloudOptions {
  /** Embedded (PGlite), or a database of its own on the real server of this run. */
  on?: 'pglite' | 'postgres'
  /** Variables of the functions that differ from the local ones; some can be known only when the cloud is there. */
  environment?: Record<string, string> | ((cloud: Cloud) => Promise<Record<string, string>>)
  name?: string
  /** Phase 2 on this one, which must be nobody else's; true: on one of its own. */
  valkey?: Redis | boolean
  /** How the functions are hosted; absent: all of them in one process. */
  host?: Host
}

/** Starts processes that poll for the functions. Told the environment that all functions would have in common. */
export type Host = (cloud: Cloud, environment: Record<string, string>) => HostProcess[]

export interface HostProcess {
  child: ChildProcess
  /** Those that it runs, by name: what they were doing fails at once when it ends. */
  functions: string[]
  /** Resolves when it takes invocations. */
  polling: Promise<unknown>
}

export interface Turnkeep {
  cloud: Cloud
  /** Phase 2 only. */
  redis: Redis | undefined
  address: string
  /** Makes calls as this user; company `acme` and platform `web` unless told otherwise. */
  as(identity?: Partial<Identity>): ApiClient
  /** Runs SQL as the owner; with a tenant, as that tenant sees it. */
  rows<Row = Record<string, unknown>>(
    sql: string,
    tenant?: { companyId: string; platform: string },
  ): Promise<Row[]>
  /** Waits until every message of the turns queue, watches aside, has been dealt with. */
  drained(): Promise<void>
  functions(): ChildProcess
  /** What the functions have written so far; TEST_LOGS=1 shows it. */
  output(): string
  /** SIGKILL, as a crash of Lambda is; a new process takes over unless told not to. */
  killFunctions(options?: { restart?: boolean }): Promise<void>
  startFunctions(environment?: Record<string, string>): Promise<ChildProcess>
  /** As a deployment does: new ones with other variables take over, and the old ones end what they do. */
  switchFunctions(environment: Record<string, string>): Promise<void>
  close(): Promise<void>
}

/** As deployed, but a batch's window is short: tests wait again and again until something is saved. */
export const promptBatches: Resources = {
  ...resources,
  eventSources: resources.eventSources.map((source) => ({ ...source, windowSeconds: 0.1 })),
}

/** The same tests in phase 1, and in phase 2 where there is a server for it. */
export function inBothPhases(title: string, tests: (phase: { valkey: boolean }) => void): void {
  describe(`${title}, phase 1`, () => tests({ valkey: false }))
  const without = redisAvailable ? '' : ` (${whyNoRedis})`
  describe.skipIf(!redisAvailable)(`${title}, phase 2${without}`, () => tests({ valkey: true }))
}

export const ACME = { companyId: 'acme', platform: 'web' }

export async function startTurnkeep(options: TurnkeepOptions = {}): Promise<Turnkeep> {
  const {
    on = 'postgres',
    environment = {},
    name = 'turnkeep',
    host = oneProcess,
    valkey = false,
    ...cloudOptions
  } = options
  const ownRedis = valkey === true ? await startRedis('single') : undefined
  const redis = typeof valkey === 'object' ? valkey : ownRedis
  const server = on === 'postgres' && !options.databaseUrl ? await startPostgresServer() : undefined
  const template = server && (await migratedTemplate(server.url))
  const databaseUrl =
    options.databaseUrl ?? (server && (await createDatabase(server.url, name, { template })))
  const beginWith = databaseUrl === undefined ? await migratedDump() : undefined
  const cloud = await startCloud({
    scriptedModel: { tokenDelayMs: 0 },
    resources: promptBatches,
    gate: record,
    ...cloudOptions,
    ...(databaseUrl ? { databaseUrl } : { beginWith }),
    ...(redis ? { valkeyUrl: variablesOf(redis).VALKEY_URL } : {}),
  })
  const variables = {
    ...(redis && variablesOf(redis)),
    ...(typeof environment === 'function' ? await environment(cloud) : environment),
  }
  const children = new Set<ChildProcess>()
  let current: ChildProcess
  let output = ''

  const watch = ({ child, functions }: HostProcess): Promise<never> => {
    for (const stream of [child.stdout, child.stderr])
      stream?.on('data', (chunk: Buffer) => {
        output += chunk
        if (process.env.TEST_LOGS) process.stderr.write(chunk)
      })
    children.add(child)
    return new Promise((_, reject) => {
      child.once('exit', () => {
        children.delete(child)
        cloud.runtimeApi.environmentEnded(functions)
        reject(new Error(`The process of ${functions} ended:\n${output.slice(-TOLD_OF_OUTPUT)}`))
      })
    })
  }
  const startFunctions = async (more: Record<string, string> = {}): Promise<ChildProcess> => {
    const processes = host(cloud, { ...cloud.functionEnvironment, ...UNHURRIED, ...variables, ...more })
    const ended = processes.map(watch)
    for (const end of ended) end.catch(() => undefined)
    await Promise.race([Promise.all(processes.map(({ polling }) => polling)), ...ended])
    return processes[0]?.child as ChildProcess
  }
  const end = async (child: ChildProcess): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const gone = once(child, 'exit')
    child.kill('SIGKILL')
    await gone
  }

  current = await startFunctions()
  await cloud.open()
  return {
    cloud,
    redis,
    address: cloud.address,
    as: (identity = {}) => clientOf(cloud.address, { ...ACME, userId: 'u1', role: 'user', ...identity }),
    rows: (sql, tenant = ACME) => query(cloud, databaseUrl, sql, tenant),
    drained: () => drained(cloud),
    functions: () => current,
    output: () => output,
    startFunctions,
    switchFunctions: async (variables) => {
      const old = current
      current = await startFunctions(variables)
      const idle = new Promise<void>((resolve) => {
        old.on('message', ({ type }: { type?: string }) => type === 'idle' && resolve())
      })
      old.send({ type: 'drain' })
      await idle
    },
    killFunctions: async ({ restart = true } = {}) => {
      await end(current)
      if (restart) current = await startFunctions()
    },
    close: async () => {
      await Promise.all([...children].map(end))
      await cloud.close()
      await server?.close()
      await ownRedis?.close()
    },
  }
}

/**
 * Tests ask more often than people do; those of the limits set their own. And a cache that is slow because the machine is
 * busy is not one that is out of reach.
 */
const UNHURRIED = {
  RATE_LIMIT_USER: '1000000',
  RATE_LIMIT_TENANT: '1000000',
  RATE_LIMIT_ADDRESS: '1000000',
  VALKEY_PATIENCE_MS: '5000',
}

/** Enough for the error that a process ended with. */
const TOLD_OF_OUTPUT = 2_000

/** As on a developer's machine. */
const oneProcess: Host = (cloud, environment) => [
  forkFunctions(Object.keys(cloud.runtimeApi.addresses), { POWERTOOLS_LOG_LEVEL: 'INFO', ...environment }),
]

/** TURNKEEP_FUNCTIONS says what it hosts. */
export function forkFunctions(
  functions: string[],
  environment: Record<string, string>,
  cwd?: string,
): HostProcess {
  const child = fork(FUNCTIONS, {
    execArgv: [],
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    env: { PATH: process.env.PATH, ...COMPILE_CACHE, ...environment },
    ...(cwd && { cwd }),
  })
  return { child, functions, polling: once(child, 'message') }
}

async function query<Row>(
  cloud: Cloud,
  databaseUrl: string | undefined,
  sql: string,
  tenant: typeof ACME,
): Promise<Row[]> {
  const client = new pg.Client({ connectionString: databaseUrl ?? cloud.postgres.url })
  await client.connect()
  try {
    await client.query(
      `select set_config('turnkeep.company_id', $1, false), set_config('turnkeep.platform', $2, false)`,
      [tenant.companyId, tenant.platform],
    )
    const { rows } = await client.query(sql)
    return rows
  } finally {
    await client.end()
  }
}

/** Long enough for a batch's window and a slow machine; a queue that never empties is a failure. */
const DRAIN_MS = 20_000

async function drained(cloud: Cloud): Promise<void> {
  const until = Date.now() + DRAIN_MS
  for (;;) {
    const { ready = [], inflight = [] } = cloud.fauxqs.inspectQueue('turns')?.messages ?? {}
    if (ready.length + inflight.length === 0) return
    if (Date.now() > until)
      throw new Error(`the queue still holds ${ready.length} + ${inflight.length} messages`)
    await new Promise((wake) => setTimeout(wake, 20))
  }
}
