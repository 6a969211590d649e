/** What stands in the turns queue, and so in the database. */
import * as v from 'valibot'
import { roles } from './callers.ts'
import type { Source } from './chat.ts'
import { jsonObject, uuid } from './fields.ts'

/**
 * What saving a message has yet to do, where its turn was opened in Valkey. Postgres does it when the turn is opened
 * there. Done once, with the message's first save.
 */
const onSaveSchema = v.object({
  /** Counts it in its session. */
  count: v.literal(true),
  /** Of the session, if it has none yet. */
  title: v.optional(v.string()),
  channel: v.optional(v.string()),
  /** The key that names the turn, and the answer's id. */
  claim: v.optional(
    v.object({ caller: v.string(), key: v.string(), body_hash: v.string(), message_id: uuid }),
  ),
  /** Who has asked in another user's session. */
  audit: v.optional(v.object({ user_id: v.string(), role: v.picklist(roles), action: v.string() })),
})
export type OnSave = v.InferOutput<typeof onSaveSchema>

/**
 * A finished message on its way to Postgres, and as the hot store keeps it until then. Names are the
 * table's columns, so that SQL unnests it as it is. Everything needed to save it is in it: records arrive in
 * any order, more than once, and in any batch.
 */
export const messageRecordSchema = v.object({
  company_id: v.string(),
  platform: v.string(),
  id: uuid,
  session_id: uuid,
  thread_id: v.string(),
  role: v.picklist(['user', 'assistant', 'system']),
  content: v.string(),
  /** Set when the text is too large for a row: the object that holds it. `content` is empty then. */
  content_key: v.nullable(v.string()),
  status: v.picklist(['complete', 'stopped', 'interrupted']),
  token_count: v.nullable(v.number()),
  response_time_ms: v.nullable(v.number()),
  model: v.nullable(v.string()),
  sources: v.array(v.custom<Source>((value) => typeof value === 'object' && value !== null)),
  metadata: jsonObject,
  parent_message_id: v.nullable(uuid),
  sequence_number: v.pipe(v.number(), v.integer(), v.minValue(1)),
  created_at: v.pipe(v.string(), v.isoTimestamp()),
  /** The owner of the session: a save that comes before the session's own row creates it. */
  user_id: v.string(),
  on_save: v.optional(onSaveSchema),
})
export type MessageRecord = v.InferOutput<typeof messageRecordSchema>

/** A turn that runs, to be looked at again in case its writer dies. */
const watchSchema = v.object({ companyId: v.string(), platform: v.string(), messageId: uuid })

/** What one message of the turns queue holds: records to save, or a turn to watch. */
export const queueBodySchema = v.union([
  v.object({ records: v.pipe(v.array(messageRecordSchema), v.minLength(1)) }),
  v.object({ watch: watchSchema }),
])
export type QueueBody = v.InferOutput<typeof queueBodySchema>

/** A message on its way to the turns queue, and as the spool keeps it while the queue refuses. */
export const queueMessageSchema = v.object({
  tenant: v.object({ companyId: v.string(), platform: v.string() }),
  body: queueBodySchema,
  /** 0 to 900. */
  delaySeconds: v.optional(v.number()),
})
export type QueueMessage = v.InferOutput<typeof queueMessageSchema>
