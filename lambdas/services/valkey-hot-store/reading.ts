/** What others ask of turns than their writers. */
import type { Tenant } from '../../protocol/callers.ts'
import type { ReplyEvent } from '../../protocol/chat.ts'
import type { ReplyLogPage, WatchedTurn } from '../hot-store.ts'
import type { Call } from '../valkey.ts'
import { readMember, unlist } from './marks.ts'
import type { Means } from './means.ts'
import { keysOf, placeKey, RUNNING_SHARDS, runningKey, settingsKey } from './names.ts'
import * as scripts from './scripts/reading.ts'
import { isText, owned, unpack } from './values.ts'

/** Bytes of a log, as they are stored, that one page may have. */
const PAGE_BYTES = 262_144
/** Running turns of one shard that a sweep looks at, the oldest first. */
const SWEPT = 1_000
/** The place of a turn is written beside the turn, so for a moment there may be one without the other. */
const SETTLED_MS = 60_000

type Reader = Pick<Means, 'valkey' | 'places'>

/** As HotStore says. A finished turn is unknown, too, where nothing is left of its session to tell whether it may be shown. */
export async function readLog(
  { valkey, places }: Reader,
  tenant: Tenant,
  ownedBy: string | null,
  messageId: string,
  after: number,
): Promise<ReplyLogPage | undefined> {
  const place = await places.find(tenant, messageId)
  if (place === undefined) return undefined
  const { turn, running, log, session } = keysOf(tenant, place)
  const [state, lapsed, user, erased, ...batches] = await valkey.run<Buffer[]>(
    scripts.readLog,
    [turn(messageId), running, log(messageId), session],
    [messageId, owned(ownedBy), after, PAGE_BYTES],
    { bytes: true },
  )
  if (state === undefined) return undefined
  const events = batches.flatMap((next, index) => {
    const body = batches[index + 1]
    if (index % 2 === 1 || body === undefined) return []
    const batch = unpack<ReplyEvent[]>(body)
    const first = Number(next) - batch.length
    return batch.map((event, offset) => ({ id: first + offset, event }))
  })
  return {
    finished: isText(state, 'f'),
    lapsed: isText(lapsed, '1'),
    erased: isText(erased, '1'),
    userId: decodeURIComponent(String(user)),
    events: events.filter(({ id }) => id > after),
  }
}

/** As HotStore says. */
export async function requestStop(
  { valkey, places }: Reader,
  tenant: Tenant,
  ownedBy: string | null,
  messageId: string,
): Promise<{ finished: boolean; lapsed: boolean } | undefined> {
  const place = await places.find(tenant, messageId)
  if (place === undefined) return undefined
  const { turn, running } = keysOf(tenant, place)
  const [state, left] = await valkey.run<[string?, string?]>(
    scripts.look,
    [turn(messageId), running],
    [messageId, owned(ownedBy), '1'],
  )
  if (state === undefined) return undefined
  return { finished: state !== 'r', lapsed: state !== 'f' && Number(left) <= 0 }
}

export interface Looked {
  unfinished: (WatchedTurn & { lapsesInSeconds: number })[]
  unknown: WatchedTurn[]
}

/** Which of these turns have not ended, and which are not known here. Changes nothing. */
export async function look({ valkey, places }: Reader, watched: readonly WatchedTurn[]): Promise<Looked> {
  const found = await Promise.all(watched.map((turn) => places.find(turn, turn.messageId)))
  const known = watched.flatMap((turn, index) => {
    const place = found[index]
    return place ? [{ turn, place }] : []
  })
  const replies = await valkey.pipeline(
    known.map(({ turn, place }): Call => {
      const { turn: key, running } = keysOf(turn, place)
      return {
        script: scripts.look,
        keys: [key(turn.messageId), running],
        args: [turn.messageId, owned(null), '0'],
      }
    }),
  )
  const unknown = watched.filter((_, index) => found[index] === undefined)
  const unfinished: Looked['unfinished'] = []
  for (const [index, { turn }] of known.entries()) {
    const [state, left] = replies[index] as [string?, string?]
    if (state === undefined) unknown.push(turn)
    else if (state !== 'f') {
      const { companyId, platform, messageId } = turn
      unfinished.push({ companyId, platform, messageId, lapsesInSeconds: Number(left) / 1_000 })
    }
  }
  return { unfinished, unknown }
}

/** Those of a shard that have lost their writers. Whoever has ended is not listed any more afterwards. */
async function sweep(means: Reader, shard: number): Promise<WatchedTurn[]> {
  const { valkey, places } = means
  const flat = await valkey.command<string[]>('ZRANGE', runningKey(shard), [0, SWEPT - 1, 'WITHSCORES'])
  const listed = flat.flatMap((member, index) => {
    if (index % 2 === 1) return []
    const turn = readMember(member)
    const key = placeKey(turn.tenant, turn.messageId)
    return [{ ...turn, key, since: Number(flat[index + 1]) }]
  })
  for (const { tenant, messageId, place } of listed) places.remember(tenant, messageId, place)
  const { unfinished, unknown } = await look(
    means,
    listed.map(({ tenant, messageId }) => ({ ...tenant, messageId })),
  )
  const leaseLeft = new Map(unfinished.map((turn) => [placeKey(turn, turn.messageId), turn.lapsesInSeconds]))
  const strangers = new Set(unknown.map((turn) => placeKey(turn, turn.messageId)))
  const over = listed.filter(
    ({ key, since }) => !leaseLeft.has(key) && (!strangers.has(key) || Date.now() - since > SETTLED_MS),
  )
  await valkey.pipeline(over.map(unlist))
  return listed
    .filter(({ key }) => (leaseLeft.get(key) ?? 1) <= 0)
    .map(({ tenant, messageId }) => ({ ...tenant, messageId }))
}

/** As HotStore says. */
export async function lapsed(means: Reader, limit: number): Promise<WatchedTurn[]> {
  const found = await Promise.all(Array.from({ length: RUNNING_SHARDS }, (_, shard) => sweep(means, shard)))
  const counts = new Map<string, number>()
  return found.flat().filter((turn) => {
    const tenant = settingsKey(turn)
    const count = (counts.get(tenant) ?? 0) + 1
    counts.set(tenant, count)
    return count <= limit
  })
}
