/** The hot store of phase 1: Postgres, one Data API call an operation. */
import { CodedError, type ErrorCode, invalidField, type MessageRecord } from '../protocol.ts'
import type { Database } from './database.ts'
import type { ClaimedTurn, HotStore, OpenedTurn, StoredMessage, TurnRequest } from './hot-store.ts'

/** What the database may return of history: its response holds 1 MiB, JSON within JSON may take twice the text. */
const HISTORY_BYTES = 400_000

type Row = { kind: string; body: string }

const refusals: Partial<Record<ErrorCode, string>> = {
  not_found: 'There is no such session.',
  ended: 'This session has ended.',
  reply_in_progress: 'An answer is being written in this thread.',
}

function refuse(body: { code: ErrorCode; field?: string; message_id?: string }): CodedError {
  if (body.field) return invalidField(body.field, 'must name a finished answer in this thread')
  return new CodedError(body.code, refusals[body.code] ?? 'The turn was refused.', {
    ...(body.message_id ? { details: { messageId: body.message_id } } : {}),
  })
}

const parseRows = <Body>(rows: Row[], kind: string): Body[] =>
  rows.filter((row) => row.kind === kind).map((row) => JSON.parse(row.body))

const requestBody = (request: TurnRequest, options: PostgresHotStoreOptions) => ({
  session_id: request.sessionId,
  thread_id: request.threadId,
  owner: request.owner,
  owned_by: request.ownedBy,
  channel: request.channel,
  title: request.title,
  message_id: request.messageId,
  question: request.question,
  // Left out when undefined, and that is what tells "the newest" from "none".
  parent_message_id: request.parentMessageId,
  caller: request.idempotency?.caller,
  key: request.idempotency?.key,
  body_hash: request.idempotency?.bodyHash,
  lease_seconds: options.leaseSeconds,
  history_count: options.historyMessages,
  history_bytes: HISTORY_BYTES,
})

export interface PostgresHotStoreOptions {
  leaseSeconds: number
  historyMessages: number
}

export function openPostgresHotStore(database: Database, options: PostgresHotStoreOptions): HotStore {
  return {
    leaseSeconds: options.leaseSeconds,

    async openTurn(request) {
      const rows = await database.callFor<Row>(request.tenant, 'open_turn', [
        { jsonb: requestBody(request, options) },
      ])
      const [refused] = parseRows<Parameters<typeof refuse>[0]>(rows, 'refused')
      if (refused) throw refuse(refused)
      const [claimed] = parseRows<Record<string, string> & { body_matches: boolean }>(rows, 'claimed')
      if (claimed)
        return {
          outcome: 'claimed',
          bodyMatches: claimed.body_matches,
          sessionId: claimed.session_id,
          userMessageId: claimed.user_message_id,
          messageId: claimed.message_id,
        } as ClaimedTurn
      const [turn] = parseRows<{
        session_id: string
        created: boolean
        epoch: number
        question: MessageRecord
        answer_sequence_number: number
        opened_at: string
      }>(rows, 'turn')
      if (turn === undefined) throw new Error('open_turn returned neither a turn nor a reason')
      return {
        outcome: 'opened',
        sessionId: turn.session_id,
        created: turn.created,
        epoch: turn.epoch,
        question: turn.question,
        answerSequenceNumber: turn.answer_sequence_number,
        openedAt: turn.opened_at,
        history: parseRows<StoredMessage>(rows, 'history').reverse(),
        rescued: parseRows<MessageRecord>(rows, 'rescued'),
      } satisfies OpenedTurn
    },

    async renewLease({ tenant, messageId, epoch }) {
      const [row] = await database.callFor<{ renew_lease: boolean }>(tenant, 'renew_lease', [
        { uuid: messageId },
        { integer: epoch },
        { 'double precision': options.leaseSeconds },
      ])
      return row?.renew_lease ?? false
    },

    async finishTurn({ tenant, messageId, epoch }, answer) {
      const [row] = await database.callFor<{ finish_turn: number | null }>(tenant, 'finish_turn', [
        { uuid: messageId },
        { integer: epoch },
        { jsonb: answer },
      ])
      return row?.finish_turn ?? undefined
    },

    async readTurn(tenant, questionId, answerId) {
      const rows = await database.callFor<Row>(tenant, 'read_turn', [
        { uuid: questionId },
        { uuid: answerId },
      ])
      const [question] = parseRows<StoredMessage>(rows, 'question')
      const [answer] = parseRows<StoredMessage>(rows, 'answer')
      const [session] = parseRows<{ message_count: number }>(rows, 'session')
      if (question === undefined || session === undefined) return undefined
      return { question, answer, sessionMessageCount: session.message_count }
    },
  }
}
