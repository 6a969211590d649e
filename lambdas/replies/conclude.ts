/** How a reply ends, whichever way it does. */
import { pointerTo, stowText } from '../messages/large-text.ts'
import type { NumberedEvent } from '../protocol/chat.ts'
import type { MessageRecord } from '../protocol/queue.ts'
import type { OpenedTurn, TurnLease } from '../services/hot-store.ts'
import { answerEnded } from './answer-ended.ts'
import { makeDurable } from './durable.ts'
import { follow, isTerminal } from './follow.ts'
import type { Generated } from './generate.ts'
import type { Log } from './log.ts'
import { answerRecord, placeOf } from './records.ts'
import type { ReplyRequest } from './reply.ts'
import type { RescueServices } from './rescue.ts'
import { type Failure, failed, INTERRUPTED, type Terminal, terminalOf } from './terminal.ts'
import type { Written } from './write-log.ts'

/**
 * The turn is somebody else's now: what the log says is the reply, to this client too. A client that was sent more than
 * the log has, because the log could not be reached, is told at least how it ended.
 */
export async function* relay(
  services: RescueServices,
  { signal, endBy, log, locale }: ReplyRequest,
  { tenant, messageId }: TurnLease,
  sent: number,
): AsyncGenerator<NumberedEvent[], void> {
  log.warn('turn was taken over', { messageId })
  let ended = false
  for await (const events of follow(
    services,
    { tenant, ownedBy: null, log, signal, endBy },
    messageId,
    sent - 1,
  )) {
    ended = events.some(isTerminal)
    yield events
  }
  if (!ended) yield [{ id: sent, event: failed(locale, messageId, INTERRUPTED) }]
}

/**
 * The order at the end: the log takes the whole answer (`closing`), the queue makes it durable, the log takes the
 * terminal event, and only then does the client hear it. At whatever point the writer dies, a rescuer ends the turn
 * with the same answer.
 */
export async function* conclude(
  services: RescueServices,
  request: ReplyRequest,
  turn: OpenedTurn,
  lease: TurnLease,
  { result, sent, unacknowledged, tail, spoken }: Written<Generated>,
): AsyncGenerator<NumberedEvent[], void> {
  const { hotStore } = services
  const { log, locale } = request
  const { messageId } = lease
  let failure: Failure | undefined = result.failure
  let sessionMessageCount = turn.answerSequenceNumber
  let logged = true
  const { record, shown } = await stowed(
    services,
    answerRecord(placeOf(turn, messageId), {
      ...result,
      content: result.text,
      responseTimeMs: Date.now() - request.arrivedAt,
    }),
    log,
  )
  try {
    const count = await hotStore.close(lease, unacknowledged, shown)
    // While the log was out of reach the client got more than any rescuer had: this answer ends without the log.
    const isAhead = unacknowledged.some(({ first }) => first < sent)
    if (count === undefined && !isAhead) {
      yield* relay(services, request, lease, sent)
      return
    }
    logged = count !== undefined
    sessionMessageCount = count ?? sessionMessageCount
  } catch (error) {
    // The queue still makes the answer durable; reading it has to wait until it is saved.
    logged = false
    log.warn('turn not closed', { messageId, error })
  }
  if (!spoken && tail.some(({ event }) => event.type === 'token'))
    services.measure('TimeToFirstToken', Date.now() - request.arrivedAt)
  if (tail.length > 0) yield tail
  try {
    await makeDurable(services, [record], log)
  } catch (error) {
    log.error('answer not saved', { messageId, error })
    failure = { code: 'not_saved', retryable: true }
  }
  if (failure?.code === 'not_saved') services.count('TurnNotSaved')
  const terminal = {
    id: sent + tail.length,
    event: failure ? failed(locale, messageId, failure) : terminalOf(record, sessionMessageCount, locale),
  }
  const ending = logged ? await end(services, lease, terminal, failure, log) : 'unreachable'
  if (ending === 'taken over') {
    yield* relay(services, request, lease, terminal.id)
    return
  }
  // Out of the log's reach, the answer is reported by whoever ends its turn there.
  if (ending === 'logged') answerEnded(services, record, terminal.event, log)
  services.measure('AnswerTime', Date.now() - request.arrivedAt)
  yield [terminal]
}

/**
 * The answer as it travels, and as the turn shows it. Where the bucket refuses a large text, the queue carries it, and
 * saving it writes the object that the turn points to already.
 */
async function stowed(
  { bucket }: RescueServices,
  record: MessageRecord,
  log: Log,
): Promise<{ record: MessageRecord; shown: MessageRecord }> {
  try {
    const small = await stowText(bucket, record)
    return { record: small, shown: small }
  } catch (error) {
    log.warn('large answer not stowed yet', { messageId: record.id, error })
    return { record, shown: pointerTo(record) }
  }
}

/** Logs the terminal event. Where the turn was taken over meanwhile, the log ends as its rescuer says. */
async function end(
  { hotStore }: RescueServices,
  lease: TurnLease,
  terminal: { id: number; event: Terminal },
  failure: Failure | undefined,
  log: Log,
): Promise<'logged' | 'taken over' | 'unreachable'> {
  try {
    if (failure?.code !== 'not_saved')
      return (await hotStore.finish(lease, terminal)) ? 'logged' : 'taken over'
    // The turn stays closing: the log alone holds its answer, and whoever finds it next brings it to the queue.
    const { held } = await hotStore.append(lease, [{ first: terminal.id, events: [terminal.event] }])
    return held ? 'logged' : 'taken over'
  } catch (error) {
    log.warn('turn not finished in the log', { messageId: lease.messageId, error })
    return 'unreachable'
  }
}
