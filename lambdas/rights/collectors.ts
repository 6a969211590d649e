/**
 * What an export is made of. A feature that keeps something of a user adds its collector to the list at the end, and
 * nothing else.
 */
import { NIL } from 'uuid'
import { listMessages, type MessageServices } from '../messages/messages.ts'
import type { Tenant } from '../protocol/callers.ts'
import type { Message } from '../protocol/messages.ts'
import type { ExportLineKind } from '../protocol/rights.ts'
import type { HotStore } from '../services/hot-store.ts'
import type { ReadSecret } from '../services/secrets.ts'
import { type SessionRow, toSession } from '../sessions/sessions.ts'
import { listAudit } from '../tenants/audit.ts'

/** Whose data it is. */
export interface Subject {
  tenant: Tenant
  /** As in idsOf. */
  ids: string[]
}

export interface ExportLine {
  kind: ExportLineKind
  [field: string]: unknown
}

export interface ExportPage {
  lines: ExportLine[]
  /** Where to go on, as JSON; undefined: that was all. */
  after: unknown
}

export interface CollectServices extends MessageServices {
  hotStore: Pick<HotStore, 'settle'>
  pseudonymKey: ReadSecret
}

/** Reads from a place on (null: the start) as much as is good to have in memory at once: a few MB. */
type Collector = (services: CollectServices, subject: Subject, after: unknown) => Promise<ExportPage>

const ROWS = 100
/** One call of the Data API; it ends earlier by size. */
const MESSAGES = 1_000

/** `session`: the one that was ended with. `within`: the one after it, of which the messages up to here were read. */
interface Conversation {
  session: string
  within?: { session: string; sequence: number }
}

/** Sessions by their ids, each followed by its messages, wherever those lie. */
const conversations: Collector = async (services, subject, after) => {
  const { session, within } = (after ?? { session: NIL }) as Conversation
  let row = await nextSession(services, subject, session)
  // One that was saved since may stand before the one that is being exported, which would begin anew after it.
  while (within && row && row.id < within.session) row = await nextSession(services, subject, row.id)
  if (row === undefined) return { lines: [], after: undefined }
  const isBegun = row.id === within?.session
  // What stands in the hot store alone comes to Postgres before Postgres is asked.
  if (!isBegun) await services.hotStore.settle(subject.tenant, { sessionId: row.id })
  // As its own user sees it: nobody has read anything of anybody else's.
  const owner = { ...subject.tenant, userId: row.user_id, role: 'user' } as const
  const page = await listMessages(services, owner, row.id, {
    limit: MESSAGES,
    order: 'asc',
    threadId: undefined,
    after: isBegun ? within.sequence : undefined,
  })
  return {
    lines: [
      ...(isBegun ? [] : [{ kind: 'session' as const, ...toSession(row) }]),
      ...page.items.flatMap(messageLines),
    ],
    after:
      page.nextAfter === null
        ? { session: row.id }
        : { session, within: { session: row.id, sequence: page.nextAfter } },
  }
}

async function nextSession(
  { database }: CollectServices,
  { tenant, ids }: Subject,
  after: string,
): Promise<SessionRow | undefined> {
  const [row] = await database.callFor<SessionRow>(tenant, 'export_sessions', [
    { jsonb: ids },
    { uuid: after },
    { integer: 1 },
  ])
  return row
}

function messageLines(message: Message): ExportLine[] {
  const { messageId, sessionId, satisfactionScore: score, feedbackComment: comment } = message
  const line: ExportLine = { kind: 'message', ...message }
  return score === null && comment === null
    ? [line]
    : [line, { kind: 'feedback', messageId, sessionId, score, comment }]
}

interface UsageRow {
  user_id: string
  day: string
  model: string
  turns: number
  prompt_tokens: number
  completion_tokens: number
  answer_characters: number
  response_ms: number
}

const usage: Collector = async ({ database }, { tenant, ids }, after) => {
  const rows = (
    await database.callFor<{ usage: string }>(tenant, 'export_usage', [
      { jsonb: ids },
      { jsonb: after as object | null },
      { integer: ROWS },
    ])
  ).map((row): UsageRow => JSON.parse(row.usage))
  const last = rows.at(-1)
  return {
    lines: rows.map((row) => ({
      kind: 'usage',
      day: row.day,
      model: row.model,
      turns: row.turns,
      promptTokens: row.prompt_tokens,
      completionTokens: row.completion_tokens,
      answerCharacters: row.answer_characters,
      responseTimeMs: row.response_ms,
    })),
    after:
      rows.length < ROWS ? undefined : last && { day: last.day, model: last.model, user_id: last.user_id },
  }
}

/** Who did what with the user's data. */
const audit: Collector = async (services, { tenant, ids: [userId = ''] }, after) => {
  const query = { userId, limit: ROWS, cursor: (after as string | null) ?? undefined }
  const { items, nextCursor } = await listAudit(services, tenant, query)
  return { lines: items.map((entry) => ({ kind: 'audit', ...entry })), after: nextCursor ?? undefined }
}

/** In the order in which they stand in an export; one that is being made knows them by their place. */
export const collectors: readonly Collector[] = [conversations, usage, audit]
