/**
 * Forgetting what was erased: every key of a session, whoever still writes. What is counted of its user stays until its time is
 * over: else whoever has used up a limit or a budget got another one by an erasure.
 */
import type { Tenant } from '../../protocol/callers.ts'
import type { ErasedSession, Forgotten } from '../hot-store.ts'
import type { Call } from '../valkey.ts'
import { unlist } from './marks.ts'
import type { Means } from './means.ts'
import { keysOf, type Place, placeKey } from './names.ts'
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
