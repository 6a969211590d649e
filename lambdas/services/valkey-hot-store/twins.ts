/**
 * Turns that stand here and are written elsewhere: their opening was carried out here and not heard of in time, so that
 * they were opened in Postgres, too. Here they stay empty.
 */
import type { Tenant } from '../../protocol/callers.ts'
import { unmark } from './marks.ts'
import type { Means } from './means.ts'
import { keysOf } from './names.ts'
import * as scripts from './scripts/twins.ts'

/** Whether it runs here and nothing of its answer does: so does, for a moment, every turn. */
export async function isEmpty(
  { valkey, places }: Pick<Means, 'valkey' | 'places'>,
  tenant: Tenant,
  messageId: string,
): Promise<boolean> {
  const place = await places.find(tenant, messageId)
  if (place === undefined) return false
  return (await valkey.command('HGET', keysOf(tenant, place).turn(messageId), ['next'])) === '0'
}

/** Forgets a turn that is empty, and what it has made of its thread. False: it is not there, or not empty. */
export async function forgetEmpty(
  { valkey, places }: Pick<Means, 'valkey' | 'places'>,
  tenant: Tenant,
  messageId: string,
): Promise<boolean> {
  const place = await places.find(tenant, messageId)
  if (place === undefined) return false
  const { session, history, order, running, unsaved, turn } = keysOf(tenant, place)
  const keys = [session, history, order, running, unsaved, turn(messageId)] as const
  if ((await valkey.run(scripts.forgetEmpty, keys, [messageId])) !== 1) return false
  await valkey.pipeline(unmark({ tenant, place, messageId })).catch(() => undefined)
  return true
}
