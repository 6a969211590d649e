/** A client as the product wants them: it names its question, and comes back until it has heard the end. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { NumberedEvent, ReplyEvent } from '../../lambdas/protocol/chat.ts'
import type { ApiClient, Reply } from '../harness/client.ts'

/** What one client saw of one answer, over all its connections. */
export interface Sighting {
  /** As it was asked; undefined for a reader who came later. */
  question: string | undefined
  events: NumberedEvent[]
  /** What no client should ever see: ids that repeat or leave something out, a refusal of what it had seen. */
  problems: string[]
  /** Where it was refused before its first event. */
  refused: { status: number; code: string } | undefined
}

export interface Asking {
  question: string
  sessionId?: string
  threadId?: string
  key?: string
  /** False: it leaves for good when its connection breaks, or when it is refused. */
  returns?: boolean
  onEvent?: (event: NumberedEvent, soFar: NumberedEvent[]) => boolean | Promise<boolean>
  /** Gives up after so long; the judge then decides about what it saw. */
  patienceMs?: number
}

const PATIENCE_MS = 40_000
const COME_BACK_MS = 100

export const terminalOf = ({ events }: Pick<Sighting, 'events'>) => {
  const last = events.at(-1)?.event
  return last?.type === 'done' || last?.type === 'error' ? last : undefined
}

export const sessionOf = ({ events }: Pick<Sighting, 'events'>) => {
  const first = events[0]?.event
  return first?.type === 'session' ? first : undefined
}

export const tokensOf = (events: readonly NumberedEvent[]): string =>
  events.map(({ event }: { event: ReplyEvent }) => (event.type === 'token' ? event.content : '')).join('')

/** Adds what a connection brought and notes what does not follow on what was there. */
export function takeIn(sighting: Sighting, events: readonly NumberedEvent[]): void {
  for (const event of events) {
    const expected = sighting.events.length
    if (event.id !== expected) sighting.problems.push(`event ${event.id} where ${expected} was due`)
    else if (terminalOf(sighting)) sighting.problems.push(`event ${event.id} after the terminal one`)
    sighting.events.push(event)
  }
}

export async function ask(client: ApiClient, asking: Asking): Promise<Sighting> {
  const sighting: Sighting = { question: asking.question, events: [], problems: [], refused: undefined }
  const { sessionId, threadId, key, onEvent, returns = true, patienceMs = PATIENCE_MS } = asking
  const until = Date.now() + patienceMs
  for (; !terminalOf(sighting) && Date.now() < until; await sleep(COME_BACK_MS)) {
    const session = sessionOf(sighting)
    const options = onEvent ? { onEvent } : {}
    const reply = await (session
      ? resume(client, session.messageId, sighting, options)
      : client.ask(
          { message: asking.question, ...(sessionId && { sessionId }), ...(threadId && { threadId }) },
          { ...options, ...(key && { headers: { 'idempotency-key': key } }) },
        )
    ).catch(() => undefined) // nobody there
    if (reply) {
      takeIn(sighting, reply.events)
      if (reply.error) sighting.refused = { status: reply.status, code: reply.error.code }
      if (reply.events.length > 0) sighting.refused = undefined
      if (session && reply.status === 204) {
        sighting.problems.push('told to stop before the terminal event')
        break
      }
      if (session && reply.error && reply.status < 500) {
        sighting.problems.push(`coming back was refused: ${reply.error.code}`)
        break
      }
      if (!session && reply.error && reply.status < 500) break
    }
    if (!returns) break
  }
  return sighting
}

/** Asks with its name as its key; `spoken` resolves with the first token. */
export function askAloud(client: ApiClient, question: string, key: string) {
  const spoken = Promise.withResolvers<void>()
  const onEvent = ({ event }: NumberedEvent): boolean => {
    if (event.type === 'token') spoken.resolve()
    return false
  }
  return { seen: ask(client, { question, key, onEvent }), spoken: spoken.promise }
}

const resume = (
  client: ApiClient,
  messageId: string,
  { events }: Sighting,
  options: object,
): Promise<Reply> =>
  client.stream('GET', `/api/chat/stream/${messageId}`, undefined, {
    ...options,
    headers: { 'last-event-id': String(events.at(-1)?.id ?? -1) },
  })

/** A reader of an answer that somebody else asked for. */
export async function read(client: ApiClient, messageId: string, options: object = {}): Promise<Sighting> {
  const reply = await client.stream('GET', `/api/chat/stream/${messageId}`, undefined, options)
  const sighting: Sighting = { question: undefined, events: [], problems: [], refused: undefined }
  takeIn(sighting, reply.events)
  if (reply.error) sighting.refused = { status: reply.status, code: reply.error.code }
  return sighting
}
