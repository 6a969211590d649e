/** What the contract of the hot store is run on, and the words its tests are written in. */
import { v7 as uuidv7 } from 'uuid'
import { expect } from 'vitest'
import type { Tenant } from '../../lambdas/protocol/callers.ts'
import type { NumberedEvent, ReplyEvent } from '../../lambdas/protocol/chat.ts'
import type { MessageRecord } from '../../lambdas/protocol/queue.ts'
import type { OwnSettings } from '../../lambdas/protocol/tenants.ts'
import { answerRecord, placeOf } from '../../lambdas/replies/records.ts'
import type { Database } from '../../lambdas/services/database.ts'
import type {
  EventBatch,
  FinishedTurn,
  HotStore,
  OpenedTurn,
  RegenerateRequest,
  TurnLease,
  TurnRequest,
} from '../../lambdas/services/hot-store.ts'
import type { Limiter } from '../../lambdas/services/limiter.ts'
import { openPhaseOneHotStore } from '../../lambdas/services/phase-one-hot-store.ts'
import { openPhaseTwoHotStore } from '../../lambdas/services/phase-two-hot-store.ts'
import { openPostgresHotStore } from '../../lambdas/services/postgres-hot-store.ts'
import { openPostgresLimiter } from '../../lambdas/services/postgres-limiter.ts'
import { openSessionSource } from '../../lambdas/services/postgres-session-source.ts'
import { openValkey, type Valkey, type ValkeyOptions } from '../../lambdas/services/valkey.ts'
import { openSettings } from '../../lambdas/services/valkey-hot-store/settings.ts'
import { openValkeyHotStore } from '../../lambdas/services/valkey-hot-store.ts'
import { openValkeyLimiter } from '../../lambdas/services/valkey-limiter.ts'
import { type Engine, startTestDatabase } from './database.ts'
import { type RedisAccess, whyNoRedis } from './redis.ts'
import { type RedisKind, sharedRedis } from './shared-redis.ts'

/** What happens to sessions and messages beside the hot store, as the rest of the product does it. */
export interface Surroundings {
  endSession(tenant: Tenant, sessionId: string): Promise<void>
  purgeSession(tenant: Tenant, sessionId: string): Promise<void>
  deleteMessage(tenant: Tenant, messageId: string): Promise<void>
  /** An admin of the tenant does it. */
  changeSettings(
    tenant: Tenant,
    changes: { [Name in keyof OwnSettings]: OwnSettings[Name] | null },
  ): Promise<void>
  /** The queue has delivered the records: they stand in Postgres. */
  save(records: readonly MessageRecord[]): Promise<void>
}

export interface HotStoreOptions {
  leaseSeconds: number
  historyMessages: number
}

export interface StartedBackEnd extends Surroundings {
  /** Several stores over the same data, as several function instances are. */
  open(options: HotStoreOptions): HotStore
  /** The limiter that goes with it, of another instance each time. */
  openLimiter(): Limiter
  close(): Promise<void>
}

export interface BackEnd {
  name: string
  /** Why it cannot be run here. */
  skip?: string | undefined
  start(): Promise<StartedBackEnd>
}

/** Who may touch anybody's. */
const ADMIN = { user_id: 'admin', role: 'admin' }

/** What of the rest of the product stands in Postgres, told to the hot store as the functions tell it. */
function surroundings(app: Database, told: HotStore): Surroundings {
  const endSession = async (tenant: Tenant, id: string, purge: boolean) => {
    await told.settle(tenant, { sessionId: id })
    const args = [{ jsonb: ADMIN }, { uuid: id }, { boolean: purge }]
    expect(await app.callFor(tenant, 'end_session', args)).toEqual([{ end_session: true }])
    await told.sessionEnded(tenant, id, { purge })
  }
  return {
    endSession: (tenant, id) => endSession(tenant, id, false),
    purgeSession: (tenant, id) => endSession(tenant, id, true),
    deleteMessage: async (tenant, id) => {
      await told.settle(tenant, { messageId: id })
      const rows = await app.callFor(tenant, 'delete_message', [{ jsonb: ADMIN }, { uuid: id }])
      expect(rows).toEqual([{ delete_message: true }])
      await told.messageDeleted(tenant, id)
    },
    changeSettings: async (tenant, changes) => {
      const args = [{ jsonb: ADMIN }, { jsonb: changes }, { integer: null }]
      const [row] = await app.callFor<{ is_conflict: boolean; settings: string }>(
        tenant,
        'change_tenant',
        args,
      )
      if (row?.is_conflict !== false) expect.fail('the settings were not changed')
      await told.tenantChanged(tenant, JSON.parse(row.settings))
    },
    save: async (records) => {
      await app.call('save_records', [{ jsonb: [...records] }])
      await told.saved(records)
    },
  }
}

const ANY = { leaseSeconds: 60, historyMessages: 5 }

/** As the functions use it: through the Data API, with the login that owns nothing. */
const postgres = (name: string, engine: Engine): BackEnd => ({
  name,
  start: async () => {
    const { app, close } = await startTestDatabase(engine, 'hot_store')
    const open = (options: HotStoreOptions) => openPostgresHotStore(app, options)
    return { open, openLimiter: () => openPostgresLimiter(app), ...surroundings(app, open(ANY)), close }
  },
})

/** Valkey and Postgres together, one of them for new turns. */
const together = (name: string, kind: RedisKind, openTogether: typeof openPhaseTwoHotStore): BackEnd => ({
  name,
  skip: whyNoRedis,
  start: async () => {
    const [{ app, close }, redis] = await Promise.all([
      startTestDatabase('real', 'hot_store'),
      sharedRedis(kind),
    ])
    const connections: Valkey[] = []
    /** Of an instance: what its hot store and its limiter share. */
    const connect = () => {
      const connection = openValkey({
        ...valkeyOptions(redis),
        commandMs: PATIENCE_MS,
        connectMs: PATIENCE_MS,
      })
      connections.push(connection)
      const source = openSessionSource(app, {
        save: async (records) => {
          await app.call('save_records', [{ jsonb: [...records] }])
        },
      })
      const settingsOf = openSettings(connection, source, { freshMs: SETTINGS_FRESH_MS })
      const patience = { patienceMs: PATIENCE_MS, settingsPatienceMs: PATIENCE_MS }
      return {
        connection,
        source,
        settingsOf,
        limiter: openValkeyLimiter({ valkey: connection, settingsOf, ...patience }),
      }
    }
    const open = (options: HotStoreOptions) => {
      const { connection, source, settingsOf, limiter } = connect()
      return openTogether({
        valkey: openValkeyHotStore(connection, source, {
          ...options,
          settingsOf,
          // Whose leases have run out has had its time.
          budgeting: { patienceMs: PATIENCE_MS, ...(options.leaseSeconds === 0 && { holdMs: 0 }) },
        }),
        postgres: openPostgresHotStore(app, options),
        limiter,
        count: () => undefined,
      })
    }
    return {
      open,
      openLimiter: () =>
        openTogether === openPhaseTwoHotStore ? connect().limiter : openPostgresLimiter(app),
      ...surroundings(app, open(ANY)),
      close: async () => {
        await Promise.all(connections.map((connection) => connection.close()))
        await close()
      },
    }
  },
})

/** What is remembered for seconds is remembered for less, so that nobody waits long. */
const SETTINGS_FRESH_MS = 300
/** On a machine with much else to do. */
const PATIENCE_MS = 5_000

export const valkeyOptions = ({ endpoints, cluster, tls, login }: RedisAccess): ValkeyOptions => ({
  endpoints,
  cluster,
  tls,
  ...(login ? { username: login.username, password: async () => login.password } : {}),
})

export const backEnds: BackEnd[] = [
  postgres('embedded Postgres', 'embedded'),
  postgres('real Postgres', 'real'),
  together('a single Valkey', 'single', openPhaseTwoHotStore),
  together('a Valkey cluster with TLS and logins', 'cluster', openPhaseTwoHotStore),
  together('Postgres beside a Valkey that is being left', 'single', openPhaseOneHotStore),
]

/** A tenant that no other test has. */
export const newTenant = (): Tenant => ({ companyId: `company ${uuidv7()}`, platform: 'web' })

type QuestionChanges = Partial<TurnRequest['question']>

/** A question in a new session of `u1`, unless told otherwise. */
export function askIn(
  tenant: Tenant,
  changes: Partial<Omit<TurnRequest, 'question'>> & { question?: QuestionChanges } = {},
): TurnRequest {
  const threadId = changes.threadId ?? 'main'
  return {
    tenant,
    sessionId: uuidv7(),
    threadId,
    owner: 'u1',
    ownedBy: null,
    channel: null,
    title: '배송 문의',
    messageId: uuidv7(),
    parentMessageId: undefined,
    idempotency: undefined,
    ...changes,
    question: {
      company_id: tenant.companyId,
      platform: tenant.platform,
      id: uuidv7(),
      thread_id: threadId,
      role: 'user',
      content: '배송 정책이 어떻게 되나요? 😀',
      content_key: null,
      status: 'complete',
      token_count: 12,
      response_time_ms: null,
      model: null,
      sources: [],
      metadata: {},
      ...changes.question,
    },
  }
}

export async function opened(answer: ReturnType<HotStore['openTurn']>): Promise<OpenedTurn> {
  const turn = await answer
  return turn.outcome === 'opened' ? turn : expect.fail(`the turn is not opened: ${turn.outcome}`)
}

/** What it is refused with. */
export async function refused(
  answer: Promise<unknown>,
): Promise<{ code: string; message: string; details: unknown }> {
  const error = await answer.then(
    (result) => expect.fail(`it was not refused: ${JSON.stringify(result)}`),
    (reason) => reason,
  )
  expect(error).toMatchObject({ name: 'CodedError' })
  return { code: error.code, message: error.message, details: error.details }
}

export const leaseOf = (tenant: Tenant, messageId: string, epoch = 1): TurnLease => ({
  tenant,
  messageId,
  epoch,
})

export const token = (content: string): ReplyEvent => ({ type: 'token', content })

export const done = (turn: OpenedTurn, messageId: string): ReplyEvent => ({
  type: 'done',
  sessionId: turn.sessionId,
  messageId,
  finishReason: 'stop',
  metadata: {
    tokenUsage: 3,
    promptTokens: 2,
    completionTokens: 1,
    responseTime: 5,
    contextLength: 0,
    sessionMessageCount: 2,
    model: 'm',
  },
})

export function answerTo(
  turn: OpenedTurn,
  messageId: string,
  content: string,
  changes: Partial<MessageRecord> = {},
): MessageRecord {
  const record = answerRecord(placeOf(turn, messageId), {
    content,
    status: 'complete',
    finishReason: 'stop',
    completionTokens: 1,
    promptTokens: 2,
    contextLength: 0,
    responseTimeMs: 5,
    model: 'm',
    sources: [],
  })
  return { ...record, ...changes }
}

export interface Told {
  turn: OpenedTurn
  messageId: string
  question: MessageRecord
  answer: MessageRecord
  terminal: NumberedEvent
}

/** Writes an opened turn to its end: its answer in one token, then the terminal event. */
export async function tell(
  store: HotStore,
  tenant: Tenant,
  turn: OpenedTurn,
  messageId: string,
  content: string,
  changes: Partial<MessageRecord> = {},
): Promise<Told> {
  const lease = leaseOf(tenant, messageId, turn.epoch)
  const answer = answerTo(turn, messageId, content, changes)
  const batches: EventBatch[] = content === '' ? [] : [{ first: 0, events: [token(content)] }]
  expect(await store.close(lease, batches, answer)).toEqual(expect.any(Number))
  const terminal = { id: batches.length, event: done(turn, messageId) }
  expect(await store.finish(lease, terminal)).toBe(true)
  return { turn, messageId, question: turn.question, answer, terminal }
}

/** A whole turn. */
export async function converse(
  store: HotStore,
  request: TurnRequest,
  content = '이틀 안에 도착합니다.',
  changes: Partial<MessageRecord> = {},
): Promise<Told> {
  const turn = await opened(store.openTurn(request))
  return tell(store, request.tenant, turn, request.messageId, content, changes)
}

/** A second answer to a question that is there. */
export async function reconverse(
  store: HotStore,
  request: Omit<RegenerateRequest, 'messageId'>,
  content: string,
): Promise<Told> {
  const messageId = uuidv7()
  const turn = await opened(store.reopenTurn({ ...request, messageId }))
  return tell(store, request.tenant, turn, messageId, content)
}

/** The whole log, page by page. */
export async function readAll(
  store: HotStore,
  tenant: Tenant,
  messageId: string,
  after = -1,
): Promise<{ events: NumberedEvent[]; pages: number; finished: boolean }> {
  const events: NumberedEvent[] = []
  for (let pages = 1; ; pages += 1) {
    const page = await store.readLog(tenant, null, messageId, events.at(-1)?.id ?? after)
    if (page === undefined) return expect.fail('there is no such log')
    if (page.events.length === 0) return { events, pages, finished: page.finished }
    events.push(...page.events)
  }
}

/** A turn by its messages, none of which has left for the archive. */
export async function readTurn(
  store: HotStore,
  tenant: Tenant,
  questionId: string,
  answerId: string,
): Promise<FinishedTurn | undefined> {
  const turn = await store.readTurn(tenant, questionId, answerId)
  if (turn !== undefined && 'outcome' in turn) throw new Error('it has left for the archive')
  return turn
}
