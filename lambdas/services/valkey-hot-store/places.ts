/** Where messages lie, and which of them this instance writes. */
import type { Tenant } from '../../protocol/callers.ts'
import { type BoundedMap, boundedMap } from '../bounded-map.ts'
import type { Archived } from '../hot-store.ts'
import type { SessionSource } from '../postgres-session-source.ts'
import type { Valkey } from '../valkey.ts'
import { readPlace } from './marks.ts'
import { type Place, placeKey } from './names.ts'

export interface Places {
  /** Undefined: nobody here has heard of such a message, or not any more. */
  find(tenant: Tenant, messageId: string): Promise<Place | undefined>
  /** As `find`, and then asks Postgres. */
  findAnywhere(tenant: Tenant, messageId: string): Promise<Place | Archived | undefined>
  remember(tenant: Tenant, messageId: string, place: Place): void
  /** Turns that this instance writes, by placeKey. Of these it knows that they were there. */
  writing: BoundedMap<Place>
}

export function openPlaces(
  valkey: Pick<Valkey, 'command'>,
  source: Pick<SessionSource, 'findMessage'>,
): Places {
  const places = boundedMap<Place>()
  const writing = boundedMap<Place>()

  async function find(tenant: Tenant, messageId: string): Promise<Place | undefined> {
    const key = placeKey(tenant, messageId)
    const known = writing.get(key) ?? places.get(key)
    if (known) return known
    const text = await valkey.command<string | null>('GET', key)
    if (text === null) return undefined
    const place = readPlace(text)
    places.set(key, place)
    return place
  }

  return {
    find,
    async findAnywhere(tenant, messageId) {
      const known = await find(tenant, messageId)
      if (known) return known
      const message = await source.findMessage(tenant, messageId)
      if (message !== undefined && 'outcome' in message) return message
      return message && { sessionId: message.session_id, threadId: message.thread_id }
    },
    remember: (tenant, messageId, place) => places.set(placeKey(tenant, messageId), place),
    writing,
  }
}
