/** Reading a reply log: from any place in it, while it is being written or afterwards, from any instance. */
import { setTimeout as sleep } from 'node:timers/promises'
import { CodedError, type NumberedEvent, type Tenant } from '../protocol.ts'
import type { HotStore, ReplyLogPage } from '../services/hot-store.ts'
import type { Log } from './log.ts'
import { type RescueServices, rescue } from './rescue.ts'

/** A reader polls: quickly while events come, more slowly in a pause. In phase 1 each look is a paid call. */
const LOOK_AGAIN_MS = { first: 120, most: 600 }

export interface Reader {
  tenant: Tenant
  /** The only user whose turns will do; null: anybody's in the tenant. */
  ownedBy: string | null
  log: Log
  /** Aborts when this process must end: the stream then ends without a terminal event, and the client comes back. */
  signal: AbortSignal
}

export const isTerminal = ({ event }: NumberedEvent): boolean =>
  event.type === 'done' || event.type === 'error'

/** Refuses `not_found` for what is unknown or somebody else's, `erased` for what was deleted. */
export async function readReply(
  hotStore: HotStore,
  { tenant, ownedBy }: Reader,
  messageId: string,
  after: number,
): Promise<ReplyLogPage> {
  const page = await hotStore.readLog(tenant, ownedBy, messageId, after)
  if (page === undefined) throw new CodedError('not_found', 'There is no such reply.')
  if (page.erased) throw new CodedError('erased', 'This reply was deleted.')
  return page
}

/**
 * Yields the events after the given id (-1: all), each once and in order, up to the terminal event. Whoever meets a
 * turn whose writer is gone rescues it, so the stream always ends. Throws as `readReply` does.
 */
export async function* follow(
  services: RescueServices,
  reader: Reader,
  messageId: string,
  after: number,
): AsyncGenerator<NumberedEvent, void> {
  let last = after
  let pause = LOOK_AGAIN_MS.first
  while (!reader.signal.aborted) {
    const page = await readReply(services.hotStore, reader, messageId, last)
    for (const numbered of page.events) {
      last = numbered.id
      yield numbered
      if (isTerminal(numbered)) return
    }
    if (page.events.length > 0) pause = LOOK_AGAIN_MS.first
    else if (page.finished) return
    if (page.lapsed && (await rescue(services, reader.tenant, messageId, reader.log))) continue
    if (page.events.length > 0 && page.finished) continue
    await sleep(pause, undefined, { signal: reader.signal }).catch(() => undefined)
    pause = Math.min(pause * 1.5, LOOK_AGAIN_MS.most)
  }
}
