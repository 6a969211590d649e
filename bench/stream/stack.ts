/** Everything that is measured and what it needs, each in a process of its own: processor time is told apart by that. */
import { resolve } from 'node:path'
import { createDatabase, type PostgresServer } from '../../test/harness/postgres-server.ts'
import { redisBinary, startRedis, variablesOf, whyNoRedis } from '../../test/harness/redis.ts'
import { findPostgres } from '../postgres.ts'
import { msBelow, threadMs } from '../processor.ts'
import {
  type Ask,
  askModel,
  askProduct,
  askRelay,
  type Conversation,
  type Phase,
  type Read,
  readProduct,
} from './clients.ts'
import { end, type Measured, startMeasured, startProcess, told } from './processes.ts'

const CLOUD = resolve(import.meta.dirname, '../../local/cloud/main.ts')
const FUNCTIONS = resolve(import.meta.dirname, '../../local/functions/main.ts')
/** Nobody else asks so often; and where all share two processors, a cache that is late is not away. */
const UNLIMITED = {
  RATE_LIMIT_USER: '1000000',
  RATE_LIMIT_TENANT: '1000000',
  RATE_LIMIT_ADDRESS: '1000000',
  VALKEY_PATIENCE_MS: '5000',
}

export type SubjectName = 'direct' | 'pipe' | 'relay' | `core phase ${Phase}` | `cloud phase ${Phase}`

export interface Subject {
  name: SubjectName
  ask: Ask
  /** Whose processor time and memory are its own; absent: it has no process that is only its own. */
  process?: Measured
  /**
   * Processor milliseconds so far of what it stands on: the stand-ins for AWS, other functions, Postgres, Redis. Null where
   * one of them is not of this run's making.
   */
  servicesMs?: () => number | null
  /** The product's: reads an answer again. */
  read?: Read
}

export interface Stack {
  subjects: Subject[]
  conversations: Conversation[]
  /** What could not be measured here, and why. */
  leftOut: string[]
  close(): Promise<void>
}

interface StartedPhase {
  subjects: Subject[]
  login(user: string): Promise<string>
}

export async function startStack(clients: number): Promise<Stack> {
  await using started = new AsyncDisposableStack() // closes what was started when something fails
  const measured = async (file: string, environment: Record<string, string> = {}): Promise<Measured> => {
    const one = await startMeasured(file, environment)
    started.defer(one.close)
    return one
  }
  const model = await measured('model.ts')
  const [pipe, relay] = await Promise.all(
    ['pipe.ts', 'relay.ts'].map((file) => measured(file, { OPENAI_BASE_URL: model.url })),
  )
  if (!pipe || !relay) throw new Error('not started')
  const subjects: Subject[] = [
    { name: 'direct', ask: askModel(model.url) },
    { name: 'pipe', ask: askModel(`${pipe.url}/v1`), process: pipe },
    { name: 'relay', ask: askRelay(relay.url), process: relay },
  ]
  const conversations = Array.from(
    { length: clients },
    (): Conversation => ({ messages: [], sessions: {}, logins: {} }),
  )
  const leftOut: string[] = []

  const addPhase = async (phase: Phase, server: PostgresServer, valkeyUrl?: string): Promise<void> => {
    const databaseUrl = await createDatabase(server.url, 'bench_stream')
    const { subjects: more, login } = await startPhase(phase, started, {
      DATABASE_URL: databaseUrl,
      OPENAI_BASE_URL: model.url,
      ...(valkeyUrl && { VALKEY_URL: valkeyUrl }),
    })
    subjects.push(...more)
    for (const [index, { logins }] of conversations.entries()) logins[phase] = await login(`user ${index}`)
  }
  const postgres = await findPostgres()
  if ('reason' in postgres) leftOut.push(`core and cloud: no Postgres (${postgres.reason})`)
  else {
    const { server } = postgres
    started.defer(server.close)
    await addPhase(1, server)
    if (redisBinary) {
      const redis = await startRedis('single')
      started.defer(redis.close)
      await addPhase(2, server, variablesOf(redis).VALKEY_URL)
    } else leftOut.push(`phase 2: ${whyNoRedis}`)
  }
  const running = started.move()
  return { subjects, conversations, leftOut, close: () => running.disposeAsync() }
}

/** The local cloud with its functions and, on the same services, the chat function alone. */
async function startPhase(
  phase: Phase,
  started: AsyncDisposableStack,
  environment: Record<string, string>,
): Promise<StartedPhase> {
  const cloud = startProcess(CLOUD, {
    ...environment,
    PORT: '0',
    OPENAI_API_KEY: 'scripted',
    CHAT_MODEL: 'scripted-chat',
  })
  started.defer(() => end(cloud, 'SIGTERM'))
  type Listening = { type: 'listening'; functionEnvironment: Record<string, string>; address: string }
  const { functionEnvironment, address } = await told<'listening', Listening>(cloud, 'listening')
  const variables = { ...functionEnvironment, ...UNLIMITED, POWERTOOLS_LOG_LEVEL: 'INFO' }
  const ready = told(cloud, 'ready')
  const functions = startProcess(FUNCTIONS, variables)
  started.defer(() => end(functions, 'SIGKILL'))
  await ready
  const core = await startMeasured('core.ts', variables)
  started.defer(core.close)
  // Both phases share a Postgres; the one that is not being measured does next to nothing.
  const servicesMs = () => {
    const all = [
      ...[cloud, functions].map(({ pid }) => threadMs(pid ?? 0)),
      msBelow(process.pid, 'postgres'),
      redisBinary ? (msBelow(process.pid, redisBinary) ?? 0) : 0, // in phase 1 none need run
    ]
    return all.reduce((sum, ms) => (sum === null || ms === null ? null : sum + ms), 0)
  }
  return {
    subjects: [
      {
        name: `core phase ${phase}`,
        ask: askProduct(core.url, phase),
        read: readProduct(core.url, phase),
        process: core,
        servicesMs,
      },
      {
        name: `cloud phase ${phase}`,
        ask: askProduct(address, phase),
        read: readProduct(address, phase),
      },
    ],
    login: async (userId) => {
      const response = await fetch(`${address}/dev/token`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ companyId: 'acme', platform: 'web', userId, role: 'user' }),
      })
      return ((await response.json()) as { token: string }).token
    },
  }
}
