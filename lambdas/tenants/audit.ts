/**
 * The audit log: who did what with whose data. Operations write it themselves, in the transaction of what they do
 * (sql/operations/audit.sql); here it is read, and written for what happens in the hot store.
 */
import {
  type Actor,
  type AuditAction,
  type AuditEntry,
  type AuditListQuery,
  type Caller,
  invalidField,
  type Page,
  type Role,
} from '../protocol.ts'
import type { Database } from '../services/database.ts'

/** Who is calling, as operations want to be told: they check what may be touched, and record it. */
export const actorBody = ({ userId, role }: Actor) => ({ user_id: userId, role })

/** For agents and admins who read or stop another user's reply. What cannot be recorded must not be done. */
export async function auditReply(
  database: Database,
  caller: Caller,
  action: Extract<AuditAction, 'reply.read' | 'reply.stopped'>,
  { userId, messageId }: { userId: string; messageId: string },
): Promise<void> {
  if (caller.userId === userId) return
  await database.callFor(caller, 'audit_reply', [
    { jsonb: actorBody(caller) },
    { text: action },
    { text: userId },
    { uuid: messageId },
  ])
}

interface AuditRow {
  id: string
  at: string
  actor_id: string
  actor_role: Role
  action: AuditAction
  user_id: string | null
  session_id: string | null
  message_id: string | null
  fields: string[]
}

/** Columns of a session are recorded by their own names. */
const apiName = (column: string): string =>
  column.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase())

const toEntry = (row: AuditRow): AuditEntry => ({
  at: new Date(row.at).toISOString(),
  actorId: row.actor_id,
  actorRole: row.actor_role,
  action: row.action,
  userId: row.user_id,
  sessionId: row.session_id,
  messageId: row.message_id,
  fields: row.fields.map(apiName),
})

/** A place in the log: a line's time, to the microsecond, and its id. */
const encodeCursor = ({ at, id }: AuditRow): string => Buffer.from(`${at} ${id}`).toString('base64url')

function decodeCursor(cursor: string): { at: string; id: string } {
  const match = /^(\S+) ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/.exec(
    Buffer.from(cursor, 'base64url').toString(),
  )
  if (!match?.[1] || !match[2] || Number.isNaN(Date.parse(match[1])))
    throw invalidField('cursor', 'must be a nextCursor of this list')
  return { at: match[1], id: match[2] }
}

/** Newest first. One more than asked for is read, to know whether there is a next page. */
export async function listAudit(
  database: Database,
  caller: Caller,
  { userId, limit, cursor }: AuditListQuery,
): Promise<Page<AuditEntry>> {
  const before = cursor === undefined ? undefined : decodeCursor(cursor)
  const rows = await database.callFor<{ entry: string }>(caller, 'list_audit', [
    { text: userId ?? null },
    { timestamptz: before?.at ?? null },
    { uuid: before?.id ?? null },
    { integer: limit + 1 },
  ])
  const lines = rows.map(({ entry }): AuditRow => JSON.parse(entry))
  const page = lines.slice(0, limit)
  const last = page.at(-1)
  return {
    items: page.map(toEntry),
    nextCursor: lines.length > limit && last !== undefined ? encodeCursor(last) : null,
  }
}
