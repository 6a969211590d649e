/** What the contract of the hot store is run on, and the words its tests are written in. */
import { v7 as uuidv7 } from 'uuid'
import { expect } from 'vitest'
import type { MessageRecord, NumberedEvent, ReplyEvent, Tenant } from '../../lambdas/protocol.ts'
import { answerRecord, placeOf } from '../../lambdas/replies/records.ts'
import type {
  EventBatch,
  HotStore,
  OpenedTurn,
  RegenerateRequest,
  TurnLease,
  TurnRequest,
} from '../../lambdas/services/hot-store.ts'
import { openPostgresHotStore } from '../../lambdas/services/postgres-hot-store.ts'
import { type Engine, startTestDatabase } from './database.ts'

/** What happens to sessions and messages beside the hot store, as the rest of the product does it. */
export interface Surroundings {
  endSession(tenant: Tenant, sessionId: string): Promise<void>
  purgeSession(tenant: Tenant, sessionId: string): Promise<void>
  deleteMessage(tenant: Tenant, messageId: string): Promise<void>
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
  close(): Promise<void>
}

export interface BackEnd {
  name: string
  /** Why it cannot be run here. */
  skip?: string | undefined
  start(): Promise<StartedBackEnd>
}

/** As the functions use it: through the Data API, with the login that owns nothing. */
const postgres = (name: string, engine: Engine): BackEnd => ({
  name,
  start: async () => {
    const database = await startTestDatabase(engine, 'hot_store')
    const { app } = database
    const endSession = async (tenant: Tenant, id: string, purge: boolean) => {
      const args = [{ text: null }, { uuid: id }, { boolean: purge }]
      expect(await app.callFor(tenant, 'end_session', args)).toEqual([{ end_session: true }])
    }
    return {
      open: (options) => openPostgresHotStore(app, options),
      endSession: (tenant, id) => endSession(tenant, id, false),
      purgeSession: (tenant, id) => endSession(tenant, id, true),
      deleteMessage: async (tenant, id) => {
        const rows = await app.callFor(tenant, 'delete_message', [{ text: null }, { uuid: id }])
        expect(rows).toEqual([{ delete_message: true }])
      },
      save: async (records) => {
        await app.call('save_messages', [{ jsonb: [...records] }])
      },
      close: database.close,
    }
  },
})

export const backEnds: BackEnd[] = [
  postgres('embedded Postgres', 'embedded'),
  postgres('real Postgres', 'real'),
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
