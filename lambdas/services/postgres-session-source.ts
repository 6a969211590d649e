/** What the hot store of phase 2 asks Postgres for when it does not know something itself. */
import type { Tenant } from '../protocol/callers.ts'
import type { ErrorCode } from '../protocol/errors.ts'
import type { MessageRecord } from '../protocol/queue.ts'
import type { Budgets, OwnSettings } from '../protocol/tenants.ts'
import type { Database } from './database.ts'
import type { Archived, LapsedTurn, StoredMessage } from './hot-store.ts'

/** Of messages in one response: the Data API's holds 1 MiB. */
const RESPONSE_BYTES = 850_000

export interface SessionWanted {
  sessionId: string
  threadId: string
  /** The only user whose session will do; null: anybody's. */
  ownedBy: string | null
  /** A message that must be there; null: the newest answer will do. */
  from: string | null
  /** A client named it as a parent, or as what to answer again. */
  named: boolean
  /** Makes the session if it is not there; not for a turn that was opened before its owner was erased. */
  make: { owner: string; channel: string | null; title: string; opened_at?: string } | undefined
  /** Messages to load. */
  count: number
  /** As in TurnRequest. */
  withoutArchived?: boolean | undefined
}

export interface LoadedSession {
  outcome: 'loaded'
  userId: string
  created: boolean
  /** It was there, and had been used within a day. */
  known: boolean
  messageCount: number
  newest: { id: string; at: number } | undefined
  messages: (MessageRecord & { is_deleted: boolean })[]
}

export interface Refusal {
  outcome: 'refused'
  code: ErrorCode
  messageId: string | undefined
}

export interface Claim {
  bodyHash: string
  sessionId: string
  userMessageId: string
  messageId: string
}

/** Of a user, and of all users of the tenant together, in this day and month. */
export type TokensUsed = Record<keyof Budgets, number>

export interface SessionSource {
  load(tenant: Tenant, wanted: SessionWanted): Promise<LoadedSession | Refusal | LapsedTurn | Archived>
  /** The turn that a caller's key named, however long ago. */
  findClaim(tenant: Tenant, caller: string, key: string): Promise<Claim | undefined>
  /** Saves records before the queue does. */
  save(records: readonly MessageRecord[]): Promise<void>
  findMessage(tenant: Tenant, messageId: string): Promise<StoredMessage | Archived | undefined>
  settings(tenant: Tenant): Promise<OwnSettings>
  /** Tokens, by the budgets that they count for, in the day and month (UTC) of that moment. */
  tokensUsed(tenant: Tenant, userId: string, at: Date): Promise<TokensUsed>
}

export function openSessionSource(
  database: Database,
  { save }: { save: (records: readonly MessageRecord[]) => Promise<void> },
): SessionSource {
  return {
    save,

    async load(tenant, wanted) {
      const rows = await database.callFor<{ kind: string; body: string }>(tenant, 'load_session', [
        {
          jsonb: {
            session_id: wanted.sessionId,
            thread_id: wanted.threadId,
            owned_by: wanted.ownedBy,
            from: wanted.from,
            named: wanted.named,
            ...wanted.make,
            count: wanted.count,
            without_archived: wanted.withoutArchived,
            bytes: RESPONSE_BYTES / 2, // Of each of the two lines of messages.
          },
        },
      ])
      const [first, ...others] = rows.map(({ kind, body }) => ({ kind, ...JSON.parse(body) }))
      if (first?.kind === 'lapsed') return { outcome: 'lapsed', messageId: first.message_id }
      if (first?.kind === 'archived') return { outcome: 'archived', archived: [first] }
      if (first?.kind !== 'session')
        return { outcome: 'refused', code: first?.code ?? 'not_found', messageId: first?.message_id }
      return {
        outcome: 'loaded',
        userId: first.user_id,
        created: first.created,
        known: first.known,
        messageCount: first.message_count,
        newest: first.newest_id === null ? undefined : { id: first.newest_id, at: first.newest_at },
        messages: others.map(({ kind: _, ...message }) => ({ ...message, user_id: first.user_id })),
      }
    },

    async findClaim(tenant, caller, key) {
      const [row] = await database.callFor<{
        body_hash: string
        session_id: string
        user_message_id: string
        message_id: string
      }>(tenant, 'find_key', [{ text: caller }, { text: key }])
      return (
        row && {
          bodyHash: row.body_hash,
          sessionId: row.session_id,
          userMessageId: row.user_message_id,
          messageId: row.message_id,
        }
      )
    },

    async findMessage(tenant, messageId) {
      const rows = await database.callFor<{ kind: string; body: string }>(tenant, 'read_turn', [
        { uuid: messageId },
        { uuid: messageId },
      ])
      const found = rows.find(({ kind }) => kind === 'question' || kind === 'archived')
      if (found?.kind === 'archived') return { outcome: 'archived', archived: [JSON.parse(found.body)] }
      return found && JSON.parse(found.body)
    },

    async settings(tenant) {
      const [row] = await database.callFor<{ settings: string }>(tenant, 'get_tenant', [])
      return row === undefined ? {} : JSON.parse(row.settings)
    },

    async tokensUsed(tenant, userId, at) {
      const [row] = await database.callFor<{
        user_day: number
        user_month: number
        tenant_day: number
        tenant_month: number
      }>(tenant, 'tokens_used', [{ text: userId }, { timestamptz: at.toISOString() }])
      if (row === undefined) throw new Error('tokens_used returned no row')
      return {
        userTokensPerDay: row.user_day,
        userTokensPerMonth: row.user_month,
        tenantTokensPerDay: row.tenant_day,
        tenantTokensPerMonth: row.tenant_month,
      }
    },
  }
}
