/** Parts of addresses and of their queries. */
import * as v from 'valibot'
import { flag, label, uuid } from './fields.ts'

/** A user's id where it stands in an address, decoded. */
export const userIdSchema = label

export const uuidSchema = uuid
export const eventIdSchema = v.pipe(
  v.string(),
  v.regex(/^\d{1,9}$/, 'must be the id of an event'),
  v.transform(Number),
)
export const resumeSchema = v.object({ after: v.optional(v.string()), token: v.optional(v.string()) })
export const purgeSchema = v.object({ purge: v.optional(flag, 'false') })
