/**
 * Two hot stores side by side: turns are written `here`, and those that this instance has opened or taken over
 * `elsewhere` are written there up to their end. One that its writer has lost is forgotten some time.
 */
import type { Tenant } from '../protocol/callers.ts'
import { boundedMap } from './bounded-map.ts'
import type { HotStore, TurnLease } from './hot-store.ts'

type Writing = Pick<HotStore, 'append' | 'close' | 'finish'>

export interface TurnsElsewhere {
  /** Remembers it, and forgets the oldest where there are too many: more than an instance writes at once. */
  add(tenant: Tenant, messageId: string): void
  has(tenant: Tenant, messageId: string): boolean
  /** To whichever store the turn is in; what has finished is forgotten. */
  writing: Writing
}

const nameOf = ({ companyId, platform }: Tenant, messageId: string): string =>
  JSON.stringify([companyId, platform, messageId])

export function openTurnsElsewhere(here: Writing, elsewhere: Writing): TurnsElsewhere {
  const turns = boundedMap<true>()
  const has = (tenant: Tenant, messageId: string): boolean => turns.has(nameOf(tenant, messageId))
  const storeOf = ({ tenant, messageId }: TurnLease): Writing => (has(tenant, messageId) ? elsewhere : here)
  return {
    add: (tenant, messageId) => turns.set(nameOf(tenant, messageId), true),
    has,
    writing: {
      append: (lease, batches) => storeOf(lease).append(lease, batches),
      close: (lease, batches, answer) => storeOf(lease).close(lease, batches, answer),
      async finish(lease, terminal) {
        const finished = await storeOf(lease).finish(lease, terminal)
        if (finished) turns.delete(nameOf(lease.tenant, lease.messageId))
        return finished
      },
    },
  }
}
