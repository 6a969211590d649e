/**
 * The writer of a reply log: an event leaves for the client only after the log has acknowledged it. What is generated
 * meanwhile forms the next append, so a slow log makes batches larger and nothing else.
 */
import type { NumberedEvent, ReplyEvent } from '../protocol/chat.ts'
import type { Measure } from '../protocol/metrics.ts'
import type { EventBatch, HotStore, LeaseState, TurnLease } from '../services/hot-store.ts'
import type { Log } from './log.ts'
import { modelAsked } from './model-asked.ts'

/** A silent writer looks this often whether it should stop: a stop is promised within a second. */
const HEARTBEAT_MS = 600
/** After this an append counts as failed, and the answer goes on without the log. */
const APPEND_DEADLINE_MS = 5_000
/** How often a log that cannot be reached is tried again. */
const RETRY_MS = 2_000

export interface WriterOptions {
  /** Comes before anything of the source's. */
  opening: ReplyEvent
  /** Somebody has asked for the answer to stop. */
  onStop: () => void
  /** The source must end: its turn was taken over, or its time is up. */
  onAbandon: (reason: string) => void
  /** Milliseconds since the epoch. */
  endBy: number
  /** When the question came, likewise. */
  arrivedAt: number
  log: Log
  measure: Measure
}

export interface Written<Result> {
  result: Result
  /** False: the turn was taken over. What the log has is the reply now; `sent` says how far the client is. */
  held: boolean
  /** Events that have left, which is the id of the next one. */
  sent: number
  /** What the log has not acknowledged, oldest first; the last batch has not left either. */
  unacknowledged: EventBatch[]
  tail: NumberedEvent[]
  /** A token is among what has left. */
  spoken: boolean
}

const numbered = ({ first, events }: EventBatch): NumberedEvent[] =>
  events.map((event, index) => ({ id: first + index, event }))

/** Tells events as they come, and resolves at their end. It never rejects. */
export type Source<Result> = (tell: (event: ReplyEvent) => void) => Promise<Result>

/** Keeps what a source tells until it is taken. */
function collect<Result>(opening: ReplyEvent, source: Source<Result>) {
  let events: ReplyEvent[] = [opening]
  let end: { result: Result } | undefined
  let changed = (): void => undefined
  const ended = source((event) => {
    events.push(event)
    changed()
  }).then((result) => {
    end = { result }
    changed()
  })
  return {
    ended,
    get end() {
      return end
    },
    get waiting(): readonly ReplyEvent[] {
      return events
    },
    take(): ReplyEvent[] {
      const taken = events
      events = []
      return taken
    },
    /** Resolves once no time is left; `leftMs` is asked again whenever something has come. */
    until(leftMs: () => number): Promise<void> {
      return new Promise((resolve) => {
        let timer: NodeJS.Timeout | undefined
        let dueAt = Number.POSITIVE_INFINITY
        const look = (): void => {
          const left = leftMs()
          if (left <= 0) {
            clearTimeout(timer)
            changed = () => undefined
            resolve()
          } else if (Date.now() + left < dueAt) {
            // Tokens come by the thousand, and most of them bring nothing forward.
            clearTimeout(timer)
            dueAt = Date.now() + left
            timer = setTimeout(expired, left)
          }
        }
        const expired = (): void => {
          dueAt = Number.POSITIVE_INFINITY
          look()
        }
        changed = look
        look()
      })
    },
  }
}

/** Rejects when the log takes too long; what it does after that, done or failed, changes nothing here. */
const withDeadline = (append: Promise<LeaseState>): Promise<LeaseState> =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error('the reply log did not answer in time')),
      APPEND_DEADLINE_MS,
    )
    append.then(resolve, reject).finally(() => clearTimeout(timer))
  })

/**
 * Yields the opening and the source's events in order, those together that the log acknowledges together; while the log
 * cannot be reached, as they come.
 * Renews the lease all along. Ends with the source, leaving the last events to whoever closes the turn, or at once
 * when the turn has been taken over; then the source is left to end by itself.
 */
export async function* writeLog<Result>(
  hotStore: HotStore,
  lease: TurnLease,
  source: Source<Result>,
  { opening, onStop, onAbandon, endBy, arrivedAt, log, measure }: WriterOptions,
): AsyncGenerator<NumberedEvent[], Written<Result>> {
  const incoming = collect(opening, source)
  let unacknowledged: EventBatch[] = []
  let next = 0
  let spoken = false
  let pacedFrom = 0
  let beatFrom = Date.now()
  let unreachableUntil = 0
  let overtaken = false

  const firstTokenWaits = (): boolean => !spoken && incoming.waiting.some(({ type }) => type === 'token')
  const dueInMs = (): number => {
    if (incoming.end || firstTokenWaits()) return 0
    return (incoming.waiting.length > 0 ? pacedFrom + hotStore.paceMs : beatFrom + HEARTBEAT_MS) - Date.now()
  }

  // What the source tells before it waits for the model goes with the opening, in one append, after the model's request.
  await modelAsked()
  for (;;) {
    await incoming.until(dueInMs)
    if (incoming.end) break

    beatFrom = Date.now()
    if (beatFrom >= endBy) onAbandon('its time is up')
    const batch: EventBatch = { first: next, events: incoming.take() }
    const speaks: boolean = !spoken && batch.events.some(({ type }) => type === 'token')
    spoken ||= speaks
    next += batch.events.length
    if (batch.events.length > 0) unacknowledged.push(batch)
    if (!overtaken && Date.now() >= unreachableUntil) {
      try {
        pacedFrom = Date.now()
        const appendedAt = performance.now()
        const state = await withDeadline(hotStore.append(lease, unacknowledged))
        measure('LogAppendTime', performance.now() - appendedAt)
        unreachableUntil = 0
        // The log was out of reach, the client has more of this answer than any rescuer had: it ends without the log.
        overtaken = !state.held && unacknowledged.some(({ first }) => first < batch.first)
        if (!overtaken) unacknowledged = []
        if (!state.held && !overtaken) {
          onAbandon('the turn was taken over')
          await incoming.ended
          return {
            result: result(incoming),
            held: false,
            sent: batch.first,
            unacknowledged: [],
            tail: [],
            spoken,
          }
        }
        if (state.stopRequested) onStop()
      } catch (error) {
        unreachableUntil = Date.now() + RETRY_MS
        measure('ReplyLogUnreachable', 1)
        log.warn('reply log not reachable', { messageId: lease.messageId, error })
      }
    }
    if (speaks) measure('TimeToFirstToken', Date.now() - arrivedAt)
    if (batch.events.length > 0) yield numbered(batch)
  }

  const tail: EventBatch = { first: next, events: incoming.take() }
  if (tail.events.length > 0) unacknowledged.push(tail)
  return { result: result(incoming), held: true, sent: next, unacknowledged, tail: numbered(tail), spoken }
}

function result<Result>(incoming: { end: { result: Result } | undefined }): Result {
  if (incoming.end === undefined) throw new Error('the source has not ended')
  return incoming.end.result
}
