/** Brings archived messages back into Postgres where a turn, or a change, needs them there. docs/protocol.md. */
import type { Tenant } from '../protocol/callers.ts'
import { CodedError } from '../protocol/errors.ts'
import type { Count } from '../protocol/metrics.ts'
import type { Bucket } from '../services/bucket.ts'
import type { Database } from '../services/database.ts'
import type { Archived, ArchivedMessages, ArchivedSegment, ArchivedThread } from '../services/hot-store.ts'
import { type Copy, findingMoved, isBroken, newestOf, readCopies, segmentsOf } from './copies.ts'
import { rowOf } from './segments.ts'

export interface ThawServices {
  database: Database
  bucket: Pick<Bucket, 'getRange'>
  count: Count
}

/** Each brings back all that is known to be needed; more than a few mean that something takes it away again. */
const MAX_THAWS = 12
/** Deleted and empty messages are followed and not counted, as the history does it. */
const STEPS_PER_MESSAGE = 4
/** Of lines in one call: a request of the Data API holds 4 MiB, and within it their quotes are escaped once more. */
const CALL_BYTES = 1_000_000
/** Answers of a thread that are looked at to find the newest one that was not deleted. */
const MAX_CANDIDATES = 1_000

/**
 * What `ask` answers, once nothing that it needs is in the archive any more. Refuses `unavailable` where what it needs
 * cannot be read; where that is damaged or missing, and not merely out of reach, what `orWithout` answers will do. It may end
 * anywhere: what was put back by then is no harm, and leaves again.
 */
export async function thawing<Answer>(
  services: ThawServices,
  tenant: Tenant,
  ask: () => Promise<Answer | Archived>,
  orWithout?: (damage: unknown) => Promise<Answer | Archived>,
): Promise<Exclude<Answer, Archived>> {
  try {
    return await thawed(services, tenant, ask)
  } catch (error) {
    if (orWithout === undefined || !isBroken(error)) throw error
    const answer = await orWithout(error)
    if (isArchived(answer)) throw error
    return answer as Exclude<Answer, Archived>
  }
}

function thawed<Answer>(
  services: ThawServices,
  tenant: Tenant,
  ask: () => Promise<Answer | Archived>,
): Promise<Exclude<Answer, Archived>> {
  return findingMoved(services.count, async () => {
    for (let thaws = 0; thaws <= MAX_THAWS; thaws += 1) {
      const answer = await ask()
      if (!isArchived(answer)) return answer as Exclude<Answer, Archived>
      for (const one of answer.archived)
        if ('message_id' in one) await putBack(services, tenant, one)
        else await findNewest(services, tenant, one)
    }
    throw new CodedError('unavailable', 'The conversation is being brought back from the archive.')
  })
}

/**
 * Brings back those of these messages that have left, one by one: where the archive is damaged, `onLost` is told of one that stays
 * there. Throws where it cannot be reached.
 */
export async function thawLeft(
  services: ThawServices,
  tenant: Tenant,
  messageIds: readonly string[],
  onLost: (messageId: string, damage: unknown) => void,
): Promise<void> {
  const find = async (ids: readonly string[]): Promise<ArchivedMessages[]> => {
    const rows = await services.database.callFor<{ body: string }>(tenant, 'find_left', [{ jsonb: ids }])
    return rows.map(({ body }) => JSON.parse(body))
  }
  for (const { message_id } of await find(messageIds))
    await thawing(
      services,
      tenant,
      async (): Promise<true | Archived> => {
        const archived = await find([message_id])
        return archived.length === 0 || { outcome: 'archived', archived }
      },
      async (damage) => {
        onLost(message_id, damage)
        return true
      },
    )
}

const isArchived = (answer: unknown): answer is Archived =>
  typeof answer === 'object' && answer !== null && 'outcome' in answer && answer.outcome === 'archived'

/** Puts back a message, and of those that lead to it as many as are wanted and in the named segments. */
async function putBack(
  { database, bucket }: ThawServices,
  tenant: Tenant,
  { message_id, wanted, segments }: ArchivedMessages,
): Promise<void> {
  const [own, ...others] = segments
  if (own === undefined) throw new CodedError('unavailable', 'Archived messages cannot be read right now.')
  let copies = newestOf(await readCopies(bucket, own))
  let unread = others
  const chain: Copy[] = []
  let copy = copies.get(message_id)
  for (let left = wanted, steps = wanted * STEPS_PER_MESSAGE; copy !== undefined; steps -= 1) {
    chain.push(copy)
    const { parent_message_id, sequence_number, is_deleted, content } = copy.message
    if (!is_deleted && content !== '') left -= 1
    if (parent_message_id === null || left <= 0 || steps <= 1) break
    const holdsParent = ({ first_sequence, last_sequence }: ArchivedSegment) =>
      first_sequence < sequence_number && last_sequence >= sequence_number - 1
    const read = await Promise.all(
      unread.filter(holdsParent).map((segment) =>
        readCopies(bucket, segment).catch((error) => {
          // What was read so far comes back; whoever needs what is in here will hear of it.
          if (!isBroken(error)) throw error
          return []
        }),
      ),
    )
    unread = unread.filter((segment) => !holdsParent(segment))
    copies = newestOf([...copies.values(), ...read.flat()])
    copy = copies.get(parent_message_id)
  }
  await thawCopies(database, tenant, chain)
}

/** A row that is there stays as it is, and a copy that is not the newest one is passed over. */
export async function thawCopies(database: Database, tenant: Tenant, copies: readonly Copy[]): Promise<void> {
  for (const messages of inCalls(copies))
    await database.callFor(tenant, 'thaw_messages', [{ text: `[${messages.join()}]` }])
}

function inCalls(copies: readonly Copy[]): string[][] {
  const calls: string[][] = []
  let bytes = Number.POSITIVE_INFINITY
  for (const copy of copies) {
    const message = `{"segment_id":"${copy.segment.id}","row":${rowOf(copy.message, copy.line)}}`
    bytes += Buffer.byteLength(message)
    if (bytes > CALL_BYTES) {
      calls.push([])
      bytes = Buffer.byteLength(message)
    }
    calls.at(-1)?.push(message)
  }
  return calls
}

/** The newest answer of a thread was put back and deleted: finds those that may take its place, in the whole session. */
async function findNewest(
  { database, bucket }: ThawServices,
  tenant: Tenant,
  { session_id, thread_id, newest_answer_id }: ArchivedThread,
): Promise<void> {
  let answers: Copy[] = []
  for await (const segment of segmentsOf(database, tenant, { sessionId: session_id })) {
    const copies = [...answers, ...(await readCopies(bucket, segment))]
    answers = [...newestOf(copies).values()]
      .filter(({ message: { role, thread_id: thread } }) => role === 'assistant' && thread === thread_id)
      .sort((a, b) => compareTimes(b, a))
      .slice(0, MAX_CANDIDATES)
  }
  const candidates = answers
    .filter(({ message }) => !message.is_deleted)
    .map(({ message: { id, created_at } }) => ({ id, at: created_at }))
  await database.callFor(tenant, 'settle_archived_thread', [
    { uuid: session_id },
    { text: thread_id },
    { uuid: newest_answer_id },
    { jsonb: candidates },
  ])
}

/** Microseconds are in the text alone, and only what is within one millisecond needs them. */
const compareTimes = ({ message: a }: Copy, { message: b }: Copy): number =>
  Date.parse(a.created_at) - Date.parse(b.created_at) ||
  (a.created_at < b.created_at ? -1 : a.created_at > b.created_at ? 1 : a.id < b.id ? -1 : 1)
