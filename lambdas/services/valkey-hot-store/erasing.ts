/** Forgetting what was erased: every key of a session, whoever still writes, and what is counted of a user. */
import type { Tenant } from '../../protocol.ts'
import type { ErasedSession, Forgotten } from '../hot-store.ts'
import type { Call } from '../valkey.ts'
import { HOLD_MS } from './budgets.ts'
import { unlist } from './marks.ts'
import type { Means } from './means.ts'
import { keysOf, type Place, placeKey, rateKey, reservedKey, tokensKey } from './names.ts'
import * as reading from './scripts/reading.ts'
import { sessionEnded } from './sessions.ts'
import { isText, owned, readEntry } from './values.ts'

/** Commands in one round trip. */
const CALLS = 500

/** As HotStore says. Messages that stand here alone are found here; others have to be named. */
export async function sessionErased(
  means: Pick<Means, 'valkey' | 'places'>,
  tenant: Tenant,
  sessionId: string,
  { messages: named, force }: ErasedSession,
): Promise<Forgotten> {
  const { valkey } = means
  await sessionEnded(means, tenant, sessionId, { purge: true })
  const threadless = keysOf(tenant, { sessionId, threadId: '' })
  const unsaved = await valkey.command<Buffer[]>('HGETALL', threadless.unsaved, [], { bytes: true })
  const messages = new Map(named.map(({ messageId, threadId }) => [messageId, threadId]))
  for (const [index, bytes] of unsaved.entries()) {
    if (index % 2 === 0) continue
    const { id, thread_id } = readEntry(sessionId, bytes)
    messages.set(id, thread_id)
  }
  for (const threadId of new Set(messages.values()))
    for (const messageId of await listed(valkey, tenant, { sessionId, threadId }))
      messages.set(messageId, threadId)

  const places = [...messages].map(([messageId, threadId]) => ({ messageId, place: { sessionId, threadId } }))
  const running = await stop(valkey, tenant, places)
  if (running > 0 && !force) return { running, removed: 0 }
  const threads = [...new Set(messages.values())].map((threadId) => keysOf(tenant, { sessionId, threadId }))
  const removed = await unlink(valkey, [
    threadless.session,
    threadless.unsaved,
    ...threads.flatMap(({ history, order, running }) => [history, order, running]),
    ...places.flatMap(({ messageId }) => [
      threadless.turn(messageId),
      threadless.log(messageId),
      placeKey(tenant, messageId),
    ]),
  ])
  await inTurns(
    valkey,
    places.map(({ messageId, place }) => unlist({ tenant, place, messageId })),
  )
  return { running, removed }
}

/** A month's counter lives for 33 days, wherever in the month it begins (scripts/budgets.ts). */
const COUNTED_DAYS = 33
const DAY_MS = 86_400_000

/** As HotStore says. Names of counters follow from the days that they can still be of: nothing is searched for. */
export async function userErased(
  { valkey }: Pick<Means, 'valkey'>,
  tenant: Tenant,
  userId: string,
  cutoff: string,
): Promise<number> {
  // From tomorrow, since clocks of instances differ.
  const days = Array.from({ length: COUNTED_DAYS + 2 }, (_, back) =>
    new Date(Date.now() + (1 - back) * DAY_MS).toISOString().slice(0, 10),
  )
  const periods = new Set(days.flatMap((day) => [day, day.slice(0, 'YYYY-MM'.length)]))
  const removed = await unlink(valkey, [
    rateKey({ tenant, kind: 'user', key: userId }),
    ...[...periods].map((period) => tokensKey(tenant, userId, period)),
  ])
  return removed + (await releaseHeld(valkey, tenant, userId, Date.parse(cutoff)))
}

/** What turns hold that were opened up to the cutoff: their writers are stopped, or dead. */
async function releaseHeld(valkey: Valkey, tenant: Tenant, userId: string, cutoff: number): Promise<number> {
  const held = await valkey.command<string[]>('HGETALL', reservedKey(tenant))
  const turns = held.filter((_, index) => {
    const [, until, , owner] = index % 2 === 0 ? (held[index + 1] ?? '').split(' ') : []
    return owner === encodeURIComponent(userId) && Number(until) - HOLD_MS <= cutoff
  })
  return turns.length === 0 ? 0 : valkey.command<number>('HDEL', reservedKey(tenant), turns)
}

type Valkey = Means['valkey']

/** Turns of a thread that have not ended. */
async function listed(valkey: Valkey, tenant: Tenant, place: Place): Promise<string[]> {
  return valkey.command<string[]>('HKEYS', keysOf(tenant, place).running)
}

/** Asks those that run to stop. Returns how many have a writer. */
async function stop(
  valkey: Valkey,
  tenant: Tenant,
  turns: readonly { messageId: string; place: Place }[],
): Promise<number> {
  const replies = await inTurns(
    valkey,
    turns.map(({ messageId, place }): Call => {
      const { turn, running } = keysOf(tenant, place)
      return {
        script: reading.look,
        keys: [turn(messageId), running],
        args: [messageId, owned(null), '1'],
      }
    }),
  )
  return replies.filter((reply) => {
    const [state, left] = (reply ?? []) as [string?, string?]
    return state !== undefined && !isText(state, 'f') && Number(left) > 0
  }).length
}

async function unlink(valkey: Valkey, keys: readonly string[]): Promise<number> {
  const replies = await inTurns(
    valkey,
    keys.map((key) => ({ command: 'UNLINK', key })),
  )
  return replies.reduce<number>((sum, reply) => sum + Number(reply), 0)
}

async function inTurns(valkey: Valkey, calls: readonly Call[]): Promise<unknown[]> {
  const replies: unknown[] = []
  for (let from = 0; from < calls.length; from += CALLS)
    replies.push(...(await valkey.pipeline(calls.slice(from, from + CALLS))))
  return replies
}
