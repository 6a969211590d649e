/** What stands in Valkey, and under which name. Everything has a time to live. */
import { createHash } from 'node:crypto'
import type { Tenant } from '../../protocol/callers.ts'
import type { LimitCheck } from '../../protocol/limits.ts'

/** Where a turn or a message lies. */
export interface Place {
  sessionId: string
  threadId: string
}

const tenantTag = ({ companyId, platform }: Tenant): string =>
  `${encodeURIComponent(companyId)}:${encodeURIComponent(platform)}`

/**
 * Every key carries its tenant and then its kind. What lies in one session has one hash tag, since a script may touch
 * the keys of one slot only; names of tenants are encoded, so that none holds a brace or a colon. What an entry is, see
 * values.ts.
 */
export const keysOf = (tenant: Tenant, { sessionId, threadId }: Place) => {
  const tag = `tk:{${tenantTag(tenant)}:${sessionId}}`
  const thread = encodeURIComponent(threadId)
  return {
    /** Hash: user; count of messages; ended; deleted; version. Without a user the session is not known here. */
    session: `${tag}:session`,
    /** Hash: message -> entry, until persist has saved it. */
    unsaved: `${tag}:unsaved`,
    /**
     * Hash: message -> entry; `@newest` -> `id opened_at` of the newest answer, or `-`: without it the thread is not
     * known here; `@version`.
     */
    history: `${tag}:history:${thread}`,
    /** List: the messages of the history as they came, to forget the oldest. */
    order: `${tag}:order:${thread}`,
    /** Hash: turn -> `lease_until question_id`; 0: its answer is saved, nobody has to be waited for. */
    running: `${tag}:running:${thread}`,
    /**
     * Hash: state r(unning), c(losing), f(inished); epoch; stop; user; question_id; question and answer (entries);
     * on_save; created; parent; sequence (the answer's); opened_at; next (event id); saved (entry); erased.
     */
    turn: (messageId: string) => `${tag}:turn:${messageId}`,
    /** Stream: an entry for each batch, its id the last event's plus one. */
    log: (messageId: string) => `${tag}:log:${messageId}`,
  }
}

/** Where a message lies, by its id alone. */
export const placeKey = (tenant: Tenant, messageId: string): string =>
  `tk:{${tenantTag(tenant)}:${messageId}}:place`

export const settingsKey = (tenant: Tenant): string => `tk:{${tenantTag(tenant)}}:settings`

/** Of one tenant's checks all lie together; an address has no tenant, and its key is a hash. */
export const rateKey = ({ tenant, kind, key }: Pick<LimitCheck, 'tenant' | 'kind' | 'key'>): string => {
  if (tenant === undefined) return `tk:{addresses:${encodeURIComponent(key)}}:rate`
  return `tk:{${tenantTag(tenant)}}:rate:${kind}${key === '' ? '' : `:${encodeURIComponent(key)}`}`
}

/** Of a user, or of all users of the tenant together (''); of a day (`YYYY-MM-DD`) or a month. A number. */
export const tokensKey = (tenant: Tenant, userId: string, period: string): string =>
  `tk:{${tenantTag(tenant)}}:tokens:${encodeURIComponent(userId)}:${period}`

/** Hash: turn -> `tokens held_until day user`. */
export const reservedKey = (tenant: Tenant): string => `tk:{${tenantTag(tenant)}}:reserved`

/** A caller's idempotency key, which may be any text. Hashed with its caller: an erasure could not name all of a user's. */
export const claimKey = (tenant: Tenant, caller: string, key: string): string => {
  const hash = createHash('sha256')
    .update(JSON.stringify([caller, key]))
    .digest('hex')
  return `tk:{${tenantTag(tenant)}:${hash}}:key`
}

/** Turns that run, of all tenants, in so many parts that no server has to hold all of them. */
export const RUNNING_SHARDS = 16
export const runningKey = (shard: number): string => `tk:{running:${shard}}`
export const shardOf = (messageId: string): number =>
  (createHash('sha1').update(messageId).digest()[0] ?? 0) % RUNNING_SHARDS
