/**
 * The audit log: who did what with whose data. Operations write it themselves, in the transaction of what they do
 * (sql/operations/audit.sql); here it is read, and written for what happens in the hot store.
 */
import { pseudonymOf } from '../ageing/pseudonym.ts'
import { pageOf, placeOf } from '../lists/newest-first.ts'
import type { AuditAction, AuditEntry, AuditListQuery } from '../protocol/audit.ts'
import type { Actor, Caller, Role, Tenant } from '../protocol/callers.ts'
import type { Page } from '../protocol/lists.ts'
import type { Database } from '../services/database.ts'
import type { ReadSecret } from '../services/secrets.ts'

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

/** Newest first. Of a user also what was done while a hash stood in place of the id, after a year without use. */
export async function listAudit(
  { database, pseudonymKey }: { database: Database; pseudonymKey: ReadSecret },
  tenant: Tenant,
  { userId, limit, cursor }: AuditListQuery,
): Promise<Page<AuditEntry>> {
  const before = cursor === undefined ? undefined : placeOf(cursor)
  const userIds = userId === undefined ? null : [userId, pseudonymOf(await pseudonymKey(), tenant, userId)]
  const rows = await database.callFor<{ entry: string }>(tenant, 'read_audit', [
    { jsonb: userIds },
    { timestamptz: before?.at ?? null },
    { uuid: before?.id ?? null },
    { integer: limit + 1 },
  ])
  const lines = rows.map(({ entry }): AuditRow => JSON.parse(entry))
  return pageOf(lines, limit, toEntry, (line) => line)
}
