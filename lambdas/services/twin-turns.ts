/**
 * A turn that was opened twice: Valkey did so and was not heard in time, so Postgres did, too, and has its answer. Its
 * twin in Valkey is empty; whoever meets it forgets it, before it is read, waited for or ended in the answer's place.
 */
import type { Tenant } from '../protocol/callers.ts'
import type { HotStore } from './hot-store.ts'
import type { ValkeyHotStore } from './valkey-hot-store.ts'

/** Whether there is a log, and nothing of it. */
const AFTER_ALL_EVENTS = 999_999_999

/** Whether a turn was such a twin. Where Postgres cannot be asked it is not known, and the turn stays. */
export const openTwins =
  ({ valkey, postgres }: { valkey: ValkeyHotStore; postgres: HotStore }) =>
  async (tenant: Tenant, messageId: string): Promise<boolean> => {
    if (!(await valkey.isEmpty(tenant, messageId))) return false
    const other = await postgres.readLog(tenant, null, messageId, AFTER_ALL_EVENTS).catch(() => undefined)
    return other !== undefined && valkey.forgetEmpty(tenant, messageId)
  }
