/** Sessions: made, listed, changed, ended. Expiry is a matter of reading: nothing has to run for it. */
import { v7 as uuidv7 } from 'uuid'
import { pageOf, placeOf } from '../lists/newest-first.ts'
import type { Caller } from '../protocol/callers.ts'
import { CodedError } from '../protocol/errors.ts'
import type { Page } from '../protocol/lists.ts'
import type { Session, SessionCreate, SessionListQuery, SessionPatch } from '../protocol/sessions.ts'
import type { Database } from '../services/database.ts'
import { actorBody } from '../tenants/audit.ts'
import { type BusinessColumns, toBusinessFields } from './business-fields.ts'
import { pseudonymOfCaller, type ReturningServices } from './returning.ts'

export interface SessionRow extends BusinessColumns {
  id: string
  user_id: string
  channel: string | null
  title: string | null
  created_at: string
  last_active_at: string
  expires_at: string
  ended_at: string | null
  metadata: string
  message_count: number
}

/** The Data API returns times in UTC and does not say so. */
const time = (text: string): string => new Date(`${text}Z`).toISOString()

export const toSession = (row: SessionRow): Session => ({
  sessionId: row.id,
  userId: row.user_id,
  channel: row.channel,
  title: row.title,
  createdAt: time(row.created_at),
  lastActiveAt: time(row.last_active_at),
  expiresAt: time(row.expires_at),
  isActive: row.ended_at === null && Date.parse(`${row.expires_at}Z`) > Date.now(),
  endedAt: row.ended_at === null ? null : time(row.ended_at),
  messageCount: row.message_count,
  metadata: JSON.parse(row.metadata),
  ...toBusinessFields(row),
})

const noSession = (): CodedError => new CodedError('not_found', 'There is no such session.')

/** The only user whose sessions this caller may touch; null for agents and admins, who may touch the tenant's. */
export const ownedBy = (caller: Caller): string | null => (caller.role === 'user' ? caller.userId : null)

/** A user speaks for itself only; an agent or admin may name another. Refuses `forbidden`. */
export function requireOwnUserId(caller: Caller, userId: string | undefined): void {
  if (caller.role === 'user' && userId !== undefined && userId !== caller.userId)
    throw new CodedError('forbidden', 'A user may not name another user.', {
      details: [{ field: 'userId', message: 'must be absent or your own' }],
    })
}

export async function createSession(
  database: Database,
  caller: Caller,
  wanted: SessionCreate,
): Promise<Session> {
  requireOwnUserId(caller, wanted.userId)
  const [row] = await database.callFor<SessionRow>(caller, 'create_session', [
    { jsonb: actorBody(caller) },
    {
      jsonb: {
        id: uuidv7(),
        user_id: wanted.userId ?? caller.userId,
        channel: wanted.channel ?? null,
        title: wanted.title ?? null,
        metadata: wanted.metadata,
      },
    },
  ])
  if (row === undefined) throw new Error('create_session returned no row')
  return toSession(row)
}

export async function getSession(database: Database, caller: Caller, sessionId: string): Promise<Session> {
  const [row] = await database.callFor<SessionRow>(caller, 'get_session', [
    { jsonb: actorBody(caller) },
    { uuid: sessionId },
  ])
  if (row === undefined) throw noSession()
  return toSession(row)
}

/** Newest activity first. A user's list begins with what the user gets back after a year (returning.ts). */
export async function listSessions(
  { database, pseudonymKey }: ReturningServices,
  caller: Caller,
  query: SessionListQuery,
): Promise<Page<Session>> {
  requireOwnUserId(caller, query.userId)
  const before = query.cursor === undefined ? undefined : placeOf(query.cursor)
  const rows = await database.callFor<SessionRow>(caller, 'list_sessions', [
    { jsonb: { ...actorBody(caller), pseudonym: await pseudonymOfCaller(pseudonymKey, caller) } },
    { text: query.userId ?? ownedBy(caller) },
    { boolean: query.active ?? null },
    { timestamptz: before?.at ?? null },
    { uuid: before?.id ?? null },
    { integer: query.limit + 1 },
  ])
  return pageOf(rows, query.limit, toSession, (row) => ({ at: `${row.last_active_at}Z`, id: row.id }))
}

/** Only what is given changes; null clears. */
export async function changeSession(
  database: Database,
  caller: Caller,
  sessionId: string,
  patch: SessionPatch,
): Promise<Session> {
  const columns: Record<keyof SessionPatch, string> = {
    title: 'title',
    metadata: 'metadata',
    inquiryCategory: 'inquiry_category',
    satisfactionScore: 'satisfaction_score',
    resolutionStatus: 'resolution_status',
    priority: 'priority',
    followUpNeeded: 'follow_up_needed',
    businessImpact: 'business_impact',
  }
  const changes = Object.fromEntries(
    Object.entries(patch).map(([field, value]) => [columns[field as keyof SessionPatch], value]),
  )
  const [row] = await database.callFor<SessionRow>(caller, 'change_session', [
    { jsonb: actorBody(caller) },
    { uuid: sessionId },
    { jsonb: changes },
  ])
  if (row === undefined) throw noSession()
  return toSession(row)
}

export async function endSession(
  database: Database,
  caller: Caller,
  sessionId: string,
  options: { purge: boolean },
): Promise<void> {
  const [row] = await database.callFor<{ end_session: boolean }>(caller, 'end_session', [
    { jsonb: actorBody(caller) },
    { uuid: sessionId },
    { boolean: options.purge },
  ])
  if (!row?.end_session) throw noSession()
}
