/** Reading a reply log: from any place in it, while it is being written or afterwards, from any instance. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Tenant } from '../protocol/callers.ts'
import type { NumberedEvent } from '../protocol/chat.ts'
import { CodedError } from '../protocol/errors.ts'
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
  /** The same by the clock, in milliseconds since the epoch. */
  endBy: number
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
 * Yields the events after the given id (-1: all), each once and in order, up to the terminal event, a page at a time. Whoever meets a
 * turn whose writer is gone rescues it, so the stream always ends. Throws as `readReply` does; a caller that has read
 * the first page already hands it over.
 */
export async function* follow(
  services: RescueServices,
  reader: Reader,
  messageId: string,
  after: number,
  firstPage?: ReplyLogPage,
): AsyncGenerator<NumberedEvent[], void> {
  let last = after
  let pause = LOOK_AGAIN_MS.first
  let page = firstPage ?? (await readReply(services.hotStore, reader, messageId, last))
  while (!reader.signal.aborted && Date.now() < reader.endBy) {
    const newest = page.events.at(-1)
    if (newest) {
      last = newest.id
      yield page.events
      if (isTerminal(newest)) return
    } else if (page.finished) return
    const rescued = page.lapsed && (await rescue(services, reader.tenant, messageId, reader.log))
    // A page may end before the log does; only a running reply is worth waiting for.
    if (!rescued && !page.finished) {
      pause = page.events.length > 0 ? LOOK_AGAIN_MS.first : Math.min(pause * 1.5, LOOK_AGAIN_MS.most)
      await sleep(pause, undefined, { signal: reader.signal }).catch(() => undefined)
    }
    page = await readReply(services.hotStore, reader, messageId, last)
  }
}
