/** What was erased, as the bucket remembers it: a database that was restored may not. docs/rights.md. */
import type { Tenant } from '../../lambdas/protocol/callers.ts'
import { tenantPath } from '../../lambdas/tenants/tenant-path.ts'
import type { Archive } from './archive.ts'

/** Milliseconds since the epoch up to which everything of a user is erased, by the user's keyed hash. */
export type Tombstones = ReadonlyMap<string, number>

export async function readTombstones(archive: Pick<Archive, 'texts'>, tenant: Tenant): Promise<Tombstones> {
  const tombstones = new Map<string, number>()
  for await (const text of archive.texts(`erasures/${tenantPath(tenant)}/`)) {
    const { user, cutoff }: { user: string; cutoff: string } = JSON.parse(text)
    tombstones.set(user, Math.max(Date.parse(cutoff), tombstones.get(user) ?? 0))
  }
  return tombstones
}

/** To the millisecond, in favour of the erasure. */
export const isErased = (
  tombstones: Tombstones,
  { user, created_at }: { user: string; created_at: string },
): boolean => Date.parse(created_at) <= (tombstones.get(user) ?? Number.NEGATIVE_INFINITY)
