import * as v from 'valibot'
import { flag, label, metadata, nullableLabel, score } from './fields.ts'
import { limit } from './lists.ts'

export interface BusinessFields {
  inquiryCategory: string | null
  satisfactionScore: number | null
  resolutionStatus: string | null
  priority: string | null
  followUpNeeded: boolean | null
  businessImpact: string | null
}

export interface Session extends BusinessFields {
  sessionId: string
  userId: string
  channel: string | null
  title: string | null
  createdAt: string
  lastActiveAt: string
  expiresAt: string
  /** Neither ended nor expired. */
  isActive: boolean
  /** Ended for good; an expired session, which a question revives, has none. */
  endedAt: string | null
  messageCount: number
  metadata: Record<string, unknown>
}

export const sessionCreateSchema = v.strictObject({
  userId: v.optional(label),
  channel: v.optional(label),
  title: v.optional(label),
  metadata: v.optional(metadata, {}),
})
export type SessionCreate = v.InferOutput<typeof sessionCreateSchema>

/** A field that is absent stays; null clears it. */
export const sessionPatchSchema = v.strictObject({
  title: nullableLabel,
  metadata: v.optional(metadata),
  inquiryCategory: nullableLabel,
  satisfactionScore: v.optional(v.nullable(score)),
  resolutionStatus: nullableLabel,
  priority: nullableLabel,
  followUpNeeded: v.optional(v.nullable(v.boolean())),
  businessImpact: nullableLabel,
})
export type SessionPatch = v.InferOutput<typeof sessionPatchSchema>

export const sessionListSchema = v.object({
  userId: v.optional(label),
  active: v.optional(flag),
  limit,
  cursor: v.optional(v.pipe(v.string(), v.maxLength(200))),
})
export type SessionListQuery = v.InferOutput<typeof sessionListSchema>
