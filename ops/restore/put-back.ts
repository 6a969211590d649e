/** Lines of an object become rows again, those of many segments in one call. */
import { BrokenSegment } from '../../lambdas/ageing/segments.ts'
import type { Archive, ArchiveObject } from './archive.ts'
import type { Outcome, Restoring } from './database.ts'
import { inCalls } from './in-calls.ts'
import { type Line, readSegments } from './read-segments.ts'

export interface Services {
  archive: Archive
  database: Restoring
}

export interface Told {
  outcomes: Record<Outcome, number>
  /** Of something that cannot be read or put back. Throws it where nothing is to be gone on with. */
  fail(error: unknown): void
}

/** Of lines in one call: a request of the Data API holds 4 MiB, and within it their quotes are escaped once more. */
const CALL_BYTES = 1_000_000
/** More would make little faster and hold locks of their sessions longer. */
const CALL_LINES = 500

/** Each is put back by one call. A line counts as its share of the lines at least. */
export const inBatches = (lists: AsyncIterable<readonly Line[]> | Iterable<readonly Line[]>) =>
  inCalls(lists, CALL_BYTES, ({ rowBytes }) => Math.max(rowBytes, CALL_BYTES / CALL_LINES))

/** A batch. Where it is refused, each of its segments is put back by itself: what is wrong with one keeps no other away. */
export async function putBack(
  { archive, database }: Services,
  object: ArchiveObject,
  lines: readonly Line[],
  told: Told,
): Promise<void> {
  let outcomes: Map<string, Outcome>
  try {
    await putNewer({ archive, database }, object, lines)
    outcomes = await putRows(database, object, lines)
  } catch (error) {
    const segments = Map.groupBy(lines, ({ place }) => place)
    if (segments.size === 1) told.fail(error)
    else for (const some of segments.values()) await putBack({ archive, database }, object, some, told)
    return
  }
  for (const outcome of outcomes.values()) told.outcomes[outcome] += 1
  for (const { id, content_key, content } of lines.map(({ message }) => message))
    if (content_key !== null && outcomes.get(id) !== 'erased')
      await archive.keepText(content_key, content).catch(told.fail)
}

const putRows = (database: Restoring, { tenant }: ArchiveObject, lines: readonly Line[]) =>
  database.put(
    tenant,
    lines.map(({ row }) => row),
  )

/**
 * Of messages that have left for another object since, the copies that are there: before the older ones of this object, which
 * then change nothing. Those that cannot be read are no reason to keep back the older ones.
 */
async function putNewer({ archive, database }: Services, object: ArchiveObject, lines: readonly Line[]) {
  const ids = lines.map(({ message }) => message.id)
  const places = await database.elsewhere(object.tenant, object.key, ids)
  places.sort((one, other) => one.byte_offset - other.byte_offset)
  const skipBroken = (error: unknown) => {
    if (!(error instanceof BrokenSegment)) throw error
  }
  async function* newer() {
    for (const inObject of Map.groupBy(places, ({ object_key }) => object_key).values())
      for await (const { place, lines } of readSegments(archive, inObject, skipBroken)) {
        const wanted = new Set(place.message_ids)
        yield lines.filter(({ message }) => wanted.has(message.id))
      }
  }
  for await (const some of inBatches(newer())) await putRows(database, object, some)
}
