/** Reply events as a `text/event-stream` body. */
import { Readable } from 'node:stream'
import type { NumberedEvent } from '../protocol/chat.ts'

/** Under the 15 s that clients are promised, and far under the 30 s after which proxies give up. */
const KEEP_ALIVE_MS = 10_000

export const eventStreamHeaders = {
  'content-type': 'text/event-stream; charset=utf-8',
  'x-accel-buffering': 'no',
}

const encode = ({ id, event }: NumberedEvent): string => `id: ${id}\ndata: ${JSON.stringify(event)}\n\n`

export interface EventStream {
  body: Readable
  /** Resolves when the events are at their end, whether or not anybody still reads the body. */
  finished: Promise<void>
}

/**
 * Writes events as soon as they are there, those of a list at once. They are read to their end at their own pace
 * even when the reader is slow or has gone, because reading them is what saves the turn; an answer is small enough
 * to wait in memory for a slow reader.
 */
export function eventStream(batches: AsyncIterable<NumberedEvent[]>): EventStream {
  const body = new Readable({ read: () => undefined })
  const write = (text: string): void => {
    if (!body.destroyed) body.push(text)
  }
  const pump = async (): Promise<void> => {
    const keepAlive = setInterval(() => write(': keep-alive\n\n'), KEEP_ALIVE_MS)
    try {
      for await (const events of batches) {
        // One write, not one for each token.
        write(events.map(encode).join(''))
        keepAlive.refresh()
      }
      if (!body.destroyed) body.push(null)
    } catch (error) {
      // The core turns failures into events; one that escapes must cut the stream, not end it as if it were whole.
      body.destroy(error as Error)
    } finally {
      clearInterval(keepAlive)
    }
  }
  return { body, finished: pump() }
}
