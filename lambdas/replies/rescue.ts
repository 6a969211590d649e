/** Ending the turn of a writer that is gone, once, whoever meets it first. */
import { readText, stowText } from '../messages/large-text.ts'
import type { Tenant } from '../protocol/callers.ts'
import type { Locale, NumberedEvent, ReplyEvent, Source } from '../protocol/chat.ts'
import type { Measure } from '../protocol/metrics.ts'
import type { MessageRecord } from '../protocol/queue.ts'
import { estimateTokens } from '../protocol/text.ts'
import type { HotStore, TakenTurn } from '../services/hot-store.ts'
import { answerEnded } from './answer-ended.ts'
import { type DurableServices, makeDurable } from './durable.ts'
import { tokens } from './generate.ts'
import type { Log } from './log.ts'
import { stagePhrases } from './phrases.ts'
import { answerRecord } from './records.ts'
import { terminalOf } from './terminal.ts'

export interface RescueServices extends DurableServices {
  hotStore: HotStore
  measure: Measure
}

/**
 * Takes over a turn whose lease has run out and ends it: with the answer its writer had closed it with, or with what
 * the log holds as an interrupted answer. False when there was nothing to rescue or somebody else is at it. Throws
 * CodedError `unavailable` when it cannot be made durable now; its new lease runs out too, and the next one tries.
 */
export async function rescue(
  services: RescueServices,
  tenant: Tenant,
  messageId: string,
  log: Log,
): Promise<boolean> {
  const taken = await services.hotStore.takeOver(tenant, messageId)
  if (taken === undefined) return false
  const { turn, saved } = taken
  const events = await readWhole(services.hotStore, tenant, messageId)
  const answer = await answerToEndWith(services, turn, saved, events)
  // A writer that was out of the log's reach may have saved more than the log has: its readers get the rest first.
  const missing = missingFrom(events, await readText(services.bucket, answer))
  const batches = missing.length > 0 ? [{ first: events.length, events: missing }] : []
  const count = await services.hotStore.close(turn.lease, batches, answer)
  if (count === undefined) return false
  await makeDurable(services, turn.question ? [turn.question, answer] : [answer], log)
  const terminal = terminalOf(answer, count, localeOf(events))
  // A writer that could not save has already told its client so, and counted it; then the log has its ending.
  const last = events.at(-1)
  const ended = last?.event.type === 'error' || last?.event.type === 'done'
  const finished = await services.hotStore.finish(turn.lease, {
    id: ended && last ? last.id : events.length + missing.length,
    event: terminal,
  })
  services.count('TurnRescued')
  if (finished && !ended) answerEnded(services, answer, terminal, log)
  log.warn('turn rescued', { messageId, sessionId: turn.sessionId, state: turn.state, status: answer.status })
  return true
}

/** What its writer closed the turn with, or saved, or else what the log holds. */
async function answerToEndWith(
  { bucket }: RescueServices,
  turn: TakenTurn,
  saved: MessageRecord | undefined,
  events: readonly NumberedEvent[],
): Promise<MessageRecord> {
  const closed = turn.answer ?? saved
  if (closed === undefined) return stowText(bucket, interruptedAnswer(turn, events))
  if (closed.content_key === null || (await bucket.get(closed.content_key)) !== undefined) return closed
  // Its writer died between pointing to the object and writing it; the log has the text.
  return stowText(bucket, { ...closed, content: textOf(events), content_key: null })
}

function missingFrom(events: readonly NumberedEvent[], text: string): ReplyEvent[] {
  const logged = textOf(events)
  const ended = events.some(({ event }) => event.type === 'done' || event.type === 'error')
  return !ended && text.startsWith(logged) ? [...tokens(text.slice(logged.length))] : []
}

const textOf = (events: readonly NumberedEvent[]): string =>
  events.map(({ event }) => (event.type === 'token' ? event.content : '')).join('')

async function readWhole(hotStore: HotStore, tenant: Tenant, messageId: string): Promise<NumberedEvent[]> {
  const events: NumberedEvent[] = []
  for (;;) {
    const page = await hotStore.readLog(tenant, null, messageId, events.at(-1)?.id ?? -1)
    if (page === undefined || page.events.length === 0) return events
    events.push(...page.events)
  }
}

function interruptedAnswer(turn: TakenTurn, events: readonly NumberedEvent[]): MessageRecord {
  const content = textOf(events)
  const sources = events.flatMap(({ event }): Source[] => (event.type === 'sources' ? event.sources : []))
  const { tenant, messageId } = turn.lease
  return answerRecord(
    {
      ...tenant,
      messageId,
      questionId: turn.questionId,
      sessionId: turn.sessionId,
      threadId: turn.threadId,
      userId: turn.userId,
      sequenceNumber: turn.answerSequenceNumber,
      openedAt: turn.openedAt,
      onSave: turn.onSave,
    },
    {
      content,
      status: 'interrupted',
      finishReason: 'stop',
      completionTokens: estimateTokens(content),
      promptTokens: 0,
      contextLength: 0,
      responseTimeMs: null,
      model: null,
      sources,
    },
  )
}

/** The language the client was spoken to in so far. */
const localeOf = (events: readonly NumberedEvent[]): Locale =>
  events.some(({ event }) => event.type === 'status' && event.message === stagePhrases.ko[event.stage])
    ? 'ko'
    : 'en'
