/** What users have a right to: exports, erasures, and the jobs that make them. */
import * as v from 'valibot'
import { uuid } from './fields.ts'

export type JobKind = 'export' | 'erasure'

/** Background work for a user, as it stands in the jobs queue. */
export const jobMessageSchema = v.object({ companyId: v.string(), platform: v.string(), jobId: uuid })
export type JobMessage = v.InferOutput<typeof jobMessageSchema>

/** What stands in an export, one JSON object a line; each line says which it is. */
export type ExportLineKind = 'session' | 'message' | 'feedback' | 'usage' | 'audit'

export interface ExportAnswer {
  exportId: string
  userId: string
  /** expired: it was there, and has had its time. */
  status: 'queued' | 'running' | 'ready' | 'failed' | 'expired'
  /** So far; of one that is ready, all. */
  progress: { sessions: number; messages: number }
  createdAt: string
  completedAt: string | null
  /** Of NDJSON, gzip; the link alone is enough to have it, and ends. Null until it is ready. */
  download: { url: string; expiresAt: string } | null
}

export interface ErasureReceipt {
  erasureId: string
  userId: string
  status: 'queued' | 'running' | 'done' | 'failed'
  requestedAt: string
  completedAt: string | null
  /** Where something of the user could have stood, and how much of it was removed. No content. */
  places: { place: ErasedPlace; removed: number }[]
}

export const erasedPlaces = [
  'runningAnswers',
  'sessions',
  'messages',
  'turns',
  'largeTexts',
  'hotStore',
  'archiveMessages',
  'archiveObjects',
  'spool',
  'exports',
  'keys',
  'usageDays',
] as const
export type ErasedPlace = (typeof erasedPlaces)[number]

/** What there is of a user, at a glance. */
export interface UserAnswer {
  userId: string
  sessions: number
  messages: number
  /** The newest of each. */
  export: ExportAnswer | null
  erasure: ErasureReceipt | null
}
