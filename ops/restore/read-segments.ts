/** Segments of an object of the archive, as the lines that are put back. */
import {
  type ArchivedMessage,
  BrokenSegment,
  linesOf,
  messageOf,
  readsOf,
  rowOf,
  type SegmentPlace,
} from '../../lambdas/ageing/segments.ts'
import type { Archive } from './archive.ts'

export interface Line {
  message: ArchivedMessage
  /** As Postgres is given it. */
  row: string
  rowBytes: number
  /** Whose line it is. */
  place: SegmentPlace
}

/** Those of one object, in its order. Tells `fail` what cannot be read, and goes on. */
export async function* readSegments<Place extends SegmentPlace>(
  archive: Pick<Archive, 'range'>,
  places: readonly Place[],
  fail: (error: unknown) => void,
): AsyncGenerator<{ place: Place; lines: Line[] }, void> {
  for (const { offset, length, members } of readsOf(places)) {
    let bytes: Buffer | undefined
    try {
      bytes = await archive.range(members[0]?.object_key ?? '', offset, length)
    } catch (error) {
      fail(error)
      continue
    }
    for (const place of members) {
      const start = place.byte_offset - offset
      try {
        if (bytes === undefined) throw new BrokenSegment('missing', place)
        const lines = linesOf(bytes.subarray(start, start + place.byte_length), place)
        yield { place, lines: lines.map((line) => lineOf(line, place)) }
      } catch (error) {
        fail(error)
      }
    }
  }
}

function lineOf(line: string, place: SegmentPlace): Line {
  const message = messageOf(line)
  const row = rowOf(message, line)
  return { message, row, rowBytes: Buffer.byteLength(row), place }
}
