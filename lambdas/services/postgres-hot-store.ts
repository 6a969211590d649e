/** The hot store of phase 1: Postgres, one Data API call an operation. */
import type { Actor, Tenant } from '../protocol/callers.ts'
import type { ReplyEvent } from '../protocol/chat.ts'
import type { Admission } from '../protocol/limits.ts'
import type { MessageRecord } from '../protocol/queue.ts'
import type { OwnSettings } from '../protocol/tenants.ts'
import type { Database } from './database.ts'
import {
  type Archived,
  type EventBatch,
  type HotStore,
  type LapsedTurn,
  type OpenedTurn,
  RESERVED_ANSWER_TOKENS,
  type Spending,
  type StoredMessage,
  type TurnRequest,
} from './hot-store.ts'
import { notOpened } from './not-opened.ts'
import { type AdmitBody, checkRows, limitStates } from './postgres-limiter.ts'

/** Of a history, or of events, in one response: the Data API's holds 1 MiB, and settings are in it, too. */
const RESPONSE_BYTES = 800_000
/** Events of one row of the log as JSON; a row of the Data API holds 64 KB. */
const BATCH_BYTES = 32_768
const PACE_MS = 150

type Row = { kind: string; body: string }

const parseRows = <Body>(rows: Row[], kind: string): Body[] =>
  rows.filter((row) => row.kind === kind).map((row) => JSON.parse(row.body))

/** What an answer says of messages that have left; undefined: nothing. */
function toArchived(rows: Row[]): Archived | undefined {
  const archived = parseRows<Archived['archived'][number]>(rows, 'archived')
  return archived.length === 0 ? undefined : { outcome: 'archived', archived }
}

/** What both ways of opening a turn answer with. */
function toOpened(rows: Row[]): OpenedTurn | LapsedTurn | Archived {
  const [refused] = parseRows<Parameters<typeof notOpened>[0]>(rows, 'refused')
  if (refused) throw notOpened(refused)
  const [lapsed] = parseRows<{ message_id: string }>(rows, 'lapsed')
  if (lapsed) return { outcome: 'lapsed', messageId: lapsed.message_id }
  const archived = toArchived(rows)
  if (archived) return archived
  const [turn] = parseRows<{
    session_id: string
    created: boolean
    known: boolean
    epoch: number
    question: MessageRecord
    answer_sequence_number: number
    opened_at: string
  }>(rows, 'turn')
  if (turn === undefined) throw new Error('opening returned neither a turn nor a reason')
  return {
    outcome: 'opened',
    sessionId: turn.session_id,
    created: turn.created,
    known: turn.known,
    epoch: turn.epoch,
    question: turn.question,
    answerSequenceNumber: turn.answer_sequence_number,
    openedAt: turn.opened_at,
    settings: parseRows<OwnSettings>(rows, 'settings')[0] ?? {},
    history: parseRows<StoredMessage>(rows, 'history').reverse(),
  }
}

/** Left out where there is none: then nothing is recorded. */
const askerBody = (asker: Actor | undefined) =>
  asker === undefined ? {} : { asker: { user_id: asker.userId, role: asker.role } }

/** Left out where there is nothing to ask. */
const spendingBody = (spending: Spending | undefined) =>
  spending === undefined
    ? {}
    : {
        spending: {
          budgets: spending.budgets,
          system_prompt_tokens: spending.systemPromptTokens,
          answer_tokens: spending.answerTokens,
          unlimited_answer_tokens: RESERVED_ANSWER_TOKENS,
          history_tokens: spending.historyTokens,
        },
      }

const turnBody = (request: TurnRequest) => ({
  session_id: request.sessionId,
  thread_id: request.threadId,
  owner: request.owner,
  owned_by: request.ownedBy,
  ...askerBody(request.asker),
  channel: request.channel,
  title: request.title,
  message_id: request.messageId,
  question: request.question,
  // Left out when undefined, and that is what tells "the newest" from "none".
  parent_message_id: request.parentMessageId,
  caller: request.idempotency?.caller,
  key: request.idempotency?.key,
  body_hash: request.idempotency?.bodyHash,
  without_archived: request.withoutArchived,
  ...spendingBody(request.spending),
})

/** Cuts batches so that each fits into a row; the same events are always cut in the same places. */
function fitRows(batches: readonly EventBatch[]): EventBatch[] {
  return batches.flatMap((batch) => {
    const { first, events } = batch
    // Nearly always: no need to write a thousand tokens one by one to know how long each is.
    if (events.length > 0 && Buffer.byteLength(JSON.stringify(events)) <= BATCH_BYTES) return [batch]
    const rows: EventBatch[] = []
    let bytes = Number.POSITIVE_INFINITY
    for (const [index, event] of events.entries()) {
      const size = Buffer.byteLength(JSON.stringify(event))
      if (bytes + size > BATCH_BYTES) {
        rows.push({ first: first + index, events: [] })
        bytes = 0
      }
      rows.at(-1)?.events.push(event)
      bytes += size
    }
    return rows
  })
}

export interface PostgresHotStoreOptions {
  leaseSeconds: number
  historyMessages: number
}

export function openPostgresHotStore(database: Database, options: PostgresHotStoreOptions): HotStore {
  const { leaseSeconds, historyMessages } = options
  const opening = {
    lease_seconds: leaseSeconds,
    history_count: historyMessages,
    history_bytes: RESPONSE_BYTES,
  }

  /** Opens by an operation, in the transaction that checks the limits, where there are any. */
  async function open(
    tenant: Tenant,
    operation: 'open_turn' | 'reopen_turn',
    admission: Admission | undefined,
    body: object,
  ): Promise<Row[]> {
    if (admission === undefined) return database.callFor<Row>(tenant, operation, [{ jsonb: body }])
    const { checks } = admission
    const args = [{ jsonb: checkRows(checks) }, { jsonb: body }]
    const rows = await database.callFor<Row>(tenant, 'open_within_limits', args)
    const [limits] = parseRows<AdmitBody>(rows, 'limits')
    if (limits) admission.settle(limitStates(checks, limits))
    return rows
  }

  return {
    leaseSeconds,
    paceMs: PACE_MS,

    async openTurn(request) {
      const body = { ...turnBody(request), ...opening }
      const rows = await open(request.tenant, 'open_turn', request.admission, body)
      const [claimed] = parseRows<{
        body_matches: boolean
        session_id: string
        user_message_id: string
        message_id: string
      }>(rows, 'claimed')
      if (claimed === undefined) return toOpened(rows)
      return {
        outcome: 'claimed',
        bodyMatches: claimed.body_matches,
        sessionId: claimed.session_id,
        userMessageId: claimed.user_message_id,
        messageId: claimed.message_id,
      }
    },

    async reopenTurn({ tenant, admission, spending, ownedBy, asker, target, messageId, withoutArchived }) {
      const body = {
        target,
        message_id: messageId,
        owned_by: ownedBy,
        without_archived: withoutArchived,
        ...askerBody(asker),
        ...spendingBody(spending),
        ...opening,
      }
      return toOpened(await open(tenant, 'reopen_turn', admission, body))
    },

    async append({ tenant, messageId, epoch }, batches) {
      const [row] = await database.callFor<{ held: boolean; stop_requested: boolean }>(
        tenant,
        'append_events',
        [
          { uuid: messageId },
          { integer: epoch },
          { 'double precision': leaseSeconds },
          { jsonb: fitRows(batches) },
        ],
      )
      return { held: row?.held ?? false, stopRequested: row?.stop_requested ?? false }
    },

    async close({ tenant, messageId, epoch }, batches, answer) {
      const [row] = await database.callFor<{ close_turn: number | null }>(tenant, 'close_turn', [
        { uuid: messageId },
        { integer: epoch },
        { 'double precision': leaseSeconds },
        { jsonb: fitRows(batches) },
        { jsonb: answer },
      ])
      return row?.close_turn ?? undefined
    },

    async finish({ tenant, messageId, epoch }, terminal) {
      const [row] = await database.callFor<{ finish_turn: boolean }>(tenant, 'finish_turn', [
        { uuid: messageId },
        { integer: epoch },
        { integer: terminal.id },
        { jsonb: terminal.event },
      ])
      return row?.finish_turn ?? false
    },

    async takeOver(tenant, messageId) {
      const rows = await database.callFor<Row>(tenant, 'take_over_turn', [
        { uuid: messageId },
        { 'double precision': leaseSeconds },
      ])
      const [turn] = parseRows<{
        epoch: number
        state: 'running' | 'closing'
        session_id: string
        thread_id: string
        user_id: string
        question_id: string
        sequence_number: number
        opened_at: string
      }>(rows, 'turn')
      if (turn === undefined) return undefined
      const [saved] = parseRows<MessageRecord>(rows, 'saved')
      const [question] = parseRows<MessageRecord>(rows, 'question')
      const [answer] = parseRows<MessageRecord>(rows, 'answer')
      return {
        saved,
        turn: {
          lease: { tenant, messageId, epoch: turn.epoch },
          state: turn.state,
          sessionId: turn.session_id,
          threadId: turn.thread_id,
          userId: turn.user_id,
          questionId: turn.question_id,
          question,
          answer,
          answerSequenceNumber: turn.sequence_number,
          openedAt: turn.opened_at,
        },
      }
    },

    async readLog(tenant, ownedBy, messageId, after) {
      const rows = await database.callFor<Row>(tenant, 'read_reply', [
        { text: ownedBy },
        { uuid: messageId },
        { integer: after },
        { integer: RESPONSE_BYTES },
      ])
      const [turn] = parseRows<{ state: string; lapsed: boolean; user_id: string; erased: boolean }>(
        rows,
        'turn',
      )
      if (turn === undefined) return undefined
      return {
        finished: turn.state === 'finished',
        lapsed: turn.lapsed,
        erased: turn.erased,
        userId: turn.user_id,
        events: parseRows<{ first: number; events: ReplyEvent[] }>(rows, 'events')
          .flatMap(({ first, events }) => events.map((event, index) => ({ id: first + index, event })))
          .filter(({ id }) => id > after),
      }
    },

    async requestStop(tenant, ownedBy, messageId) {
      const [row] = await database.callFor<{ state: string; lapsed: boolean }>(tenant, 'request_stop', [
        { text: ownedBy },
        { uuid: messageId },
      ])
      return row && { finished: row.state !== 'running', lapsed: row.lapsed }
    },

    async unfinished(watched) {
      const rows = await database.call<{
        company_id: string
        platform: string
        message_id: string
        lapses_in_seconds: number
      }>('unfinished_turns', [
        {
          jsonb: watched.map(({ companyId, platform, messageId }) => ({
            company_id: companyId,
            platform,
            message_id: messageId,
          })),
        },
      ])
      return rows.map((row) => ({
        companyId: row.company_id,
        platform: row.platform,
        messageId: row.message_id,
        lapsesInSeconds: row.lapses_in_seconds,
      }))
    },

    async lapsed(limit) {
      const rows = await database.call<{ company_id: string; platform: string; message_id: string }>(
        'lapsed_turns',
        [{ integer: limit }],
      )
      return rows.map((row) => ({
        companyId: row.company_id,
        platform: row.platform,
        messageId: row.message_id,
      }))
    },

    async readTurn(tenant, questionId, answerId) {
      const rows = await database.callFor<Row>(tenant, 'read_turn', [
        { uuid: questionId },
        { uuid: answerId },
      ])
      const archived = toArchived(rows)
      if (archived) return archived
      const [question] = parseRows<StoredMessage>(rows, 'question')
      const [answer] = parseRows<StoredMessage>(rows, 'answer')
      const [session] = parseRows<{ message_count: number }>(rows, 'session')
      if (question === undefined || session === undefined) return undefined
      return { question, answer, sessionMessageCount: session.message_count }
    },

    async settle() {},
    async saved() {},
    async sessionEnded() {},
    async messageDeleted() {},
    async tenantChanged() {},
    async sessionErased() {
      return { running: 0, removed: 0 }
    },
  }
}
