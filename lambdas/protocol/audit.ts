import * as v from 'valibot'
import type { Role } from './callers.ts'
import { label } from './fields.ts'
import { limit } from './lists.ts'

/** What is recorded; sql/operations writes these. */
export type AuditAction =
  | 'tenant.changed'
  | 'sessions.listed'
  | 'session.created'
  | 'session.read'
  | 'session.changed'
  | 'session.ended'
  | 'session.purged'
  | 'messages.read'
  | 'message.rated'
  | 'message.deleted'
  | 'question.asked'
  | 'answer.regenerated'
  | 'reply.read'
  | 'reply.stopped'
  | 'usage.read'
  | 'user.read'
  | 'user.exported'
  | 'user.erased'

/** Who did what with whose data, without content. */
export interface AuditEntry {
  at: string
  actorId: string
  actorRole: Role
  action: AuditAction
  /** Whose data it was; null: the tenant's, or all users'. */
  userId: string | null
  sessionId: string | null
  messageId: string | null
  /** Names of what was changed. */
  fields: string[]
}

export const auditListSchema = v.object({
  userId: v.optional(label),
  limit,
  cursor: v.optional(v.pipe(v.string(), v.maxLength(200))),
})
export type AuditListQuery = v.InferOutput<typeof auditListSchema>
