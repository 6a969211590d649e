/**
 * The reply core: from a question to exactly one ending, as an async generator of protocol events, those in one list that
 * leave together. It knows neither Lambda nor HTTP. docs/protocol.md specifies it: states, invariants, and the test of each.
 *
 * Until the first event it may throw: a CodedError is a refusal, and nothing was changed. From then on whatever goes
 * wrong is an event. The consumer must read to the end, also when its client has gone: the turn is being saved.
 */
import { createHash } from 'node:crypto'
import { v7 as uuidv7 } from 'uuid'
import { type ThawServices, thawing } from '../ageing/thaw.ts'
import { dropText, readText, stowText } from '../messages/large-text.ts'
import type { Caller } from '../protocol/callers.ts'
import type { ChatRequest, Locale, NumberedEvent, ReplyEvent } from '../protocol/chat.ts'
import { CodedError } from '../protocol/errors.ts'
import type { Admission } from '../protocol/limits.ts'
import { estimateTokens } from '../protocol/text.ts'
import type { Archived, LapsedTurn, OpenedTurn, Spending, TurnLease } from '../services/hot-store.ts'
import { asReturned, type ReturningServices } from '../sessions/returning.ts'
import { effectiveSettings, type TenantDefaults } from '../tenants/settings.ts'
import { conclude, relay } from './conclude.ts'
import { makeDurable } from './durable.ts'
import { type GenerateRequest, type GenerateServices, generate } from './generate.ts'
import type { Log } from './log.ts'
import { modelAsked } from './model-asked.ts'
import { questionRecord } from './records.ts'
import { replay } from './replay.ts'
import { type RescueServices, rescue } from './rescue.ts'
import { holdsOneOf } from './watched-words.ts'
import { writeLog } from './write-log.ts'

export interface ReplyServices extends GenerateServices, RescueServices, ThawServices, ReturningServices {
  bucket: GenerateServices['bucket']
  /** What acts where a tenant has set nothing. */
  defaults: TenantDefaults
  /** Where a client may resume this reply, for as long as the link lives. */
  resumeUrl: (turn: OpenedTurn, messageId: string) => Promise<string>
}

export interface ReplyRequest {
  caller: Caller
  /** Checked as the turn is opened: what the limits refuse is refused like anything else. */
  admission: Admission
  /** The only user whose sessions will do; null: anybody's in the tenant. */
  ownedBy: string | null
  locale: Locale
  /** Aborts when this process must end: the answer is then kept as interrupted. */
  signal: AbortSignal
  /** The same by the clock, in milliseconds since the epoch. */
  endBy: number
  /** Milliseconds since the epoch. */
  arrivedAt: number
  log: Log
}

export interface Asked extends ReplyRequest {
  chat: ChatRequest
  idempotencyKey: string | undefined
}

/** Long enough to recognise a conversation in a list. */
const TITLE_CHARACTERS = 60
/** Turns in the way whose writers are gone, one after the other; more than a few mean that something else is wrong. */
const MAX_RESCUES = 3
/** The watch looks again this long after the lease that it watches would run out. */
const WATCH_AFTER_LEASE_SECONDS = 1

const titleOf = (message: string): string =>
  [
    ...message
      .trim()
      .slice(0, TITLE_CHARACTERS * 4)
      .replace(/\s+/g, ' '),
  ]
    .slice(0, TITLE_CHARACTERS)
    .join('')

const hashOf = (chat: ChatRequest): string => createHash('sha256').update(JSON.stringify(chat)).digest('hex')

function spendingOf({ settings }: TenantDefaults): Spending {
  const { userTokensPerDay, userTokensPerMonth, tenantTokensPerDay, tenantTokensPerMonth } = settings
  return {
    budgets: { userTokensPerDay, userTokensPerMonth, tenantTokensPerDay, tenantTokensPerMonth },
    systemPromptTokens: estimateTokens(settings.systemPrompt),
    answerTokens: settings.answerTokens,
    historyTokens: settings.historyTokens,
  }
}

/** Answers a question, or attaches to the answer that its idempotency key names. */
export async function* reply(services: ReplyServices, request: Asked): AsyncGenerator<NumberedEvent[], void> {
  const { caller, chat, idempotencyKey } = request
  const tenant = { companyId: caller.companyId, platform: caller.platform }
  const messageId = uuidv7()
  // A large text moves to its object first, because the hot store must not hold it. That of a turn that is then refused
  // would belong to no message, and nobody could erase it.
  const question = await stowText(services.bucket, questionRecord(tenant, uuidv7(), chat))
  const turn = await opened(services, request, (withoutArchived) =>
    services.hotStore.openTurn({
      tenant,
      withoutArchived,
      admission: request.admission,
      spending: spendingOf(services.defaults),
      sessionId: chat.sessionId ?? uuidv7(),
      sessionIsNew: chat.sessionId === undefined,
      threadId: chat.threadId,
      owner: chat.userId ?? caller.userId,
      ownedBy: chat.userId ?? request.ownedBy,
      asker: caller,
      channel: chat.channel ?? null,
      title: titleOf(chat.message),
      messageId,
      question,
      parentMessageId: chat.parentMessageId,
      idempotency:
        idempotencyKey === undefined
          ? undefined
          : { caller: caller.userId, key: idempotencyKey, bodyHash: hashOf(chat) },
    }),
  ).catch(async (error) => {
    if (isRefusal(error)) await dropText(services.bucket, question)
    throw error
  })
  if (turn.outcome === 'claimed') {
    // The turn may be this one, opened by a call that was repeated.
    if (turn.userMessageId !== question.id) await dropText(services.bucket, question)
    yield* replay(services, request, turn)
    return
  }
  const { watchedWords } = effectiveSettings(services.defaults, turn.settings)
  if (holdsOneOf(watchedWords)(chat.message)) services.count('WatchedWord')
  yield* answer(services, request, turn, messageId, async () => chat.message)
}

/** Whether the turn was not opened, for certain. */
const isRefusal = (error: unknown): boolean =>
  error instanceof CodedError && error.code !== 'unavailable' && error.code !== 'internal'

/** Answers a question again that is there already; the new answer stands beside the others. */
export async function* regenerate(
  services: ReplyServices,
  request: ReplyRequest,
  target: string,
): AsyncGenerator<NumberedEvent[], void> {
  const { companyId, platform } = request.caller
  const messageId = uuidv7()
  const turn = await opened(services, request, (withoutArchived) =>
    services.hotStore.reopenTurn({
      tenant: { companyId, platform },
      withoutArchived,
      admission: request.admission,
      spending: spendingOf(services.defaults),
      ownedBy: request.ownedBy,
      asker: request.caller,
      target,
      messageId,
    }),
  )
  yield* answer(services, request, turn, messageId, () => readText(services.bucket, turn.question))
}

/**
 * Opens a turn, ending first what dead writers have left in its way, with what it needs back from the archive. Where that is
 * damaged, the model is given what is left of the conversation: it would be refused until somebody mends the archive.
 */
function opened<Turn extends { outcome: string }>(
  services: RescueServices & ThawServices & ReturningServices,
  { caller, log }: ReplyRequest,
  open: (withoutArchived: boolean) => Promise<Turn | LapsedTurn | Archived>,
): Promise<Exclude<Turn, LapsedTurn | Archived>> {
  const ask = async (withoutArchived: boolean) => {
    const askedAt = performance.now()
    const answer = await open(withoutArchived)
    services.measure('SessionLookupTime', performance.now() - askedAt)
    return answer
  }
  const without = (damage: unknown) => {
    log.warn('answering without what the archive has lost', { error: damage })
    return ask(true)
  }
  return asReturned(services, caller, async () => {
    for (let rescues = 0; rescues <= MAX_RESCUES; rescues += 1) {
      const turn = await thawing(services, caller, () => ask(false), without)
      if (!isLapsed(turn)) return turn as Exclude<Turn, LapsedTurn | Archived>
      await rescue(services, caller, turn.messageId, log)
    }
    throw new CodedError('unavailable', 'The thread is being put in order.')
  })
}

const isLapsed = (turn: { outcome: string }): turn is LapsedTurn => turn.outcome === 'lapsed'

async function* answer(
  services: ReplyServices,
  request: ReplyRequest,
  turn: OpenedTurn,
  messageId: string,
  question: () => Promise<string>,
): AsyncGenerator<NumberedEvent[], void> {
  const { hotStore } = services
  services.measure('KnownSession', turn.known ? 1 : 0)
  const tenant = { companyId: turn.question.company_id, platform: turn.question.platform }
  const lease: TurnLease = { tenant, messageId, epoch: turn.epoch }
  const stop = new AbortController()
  const abandon = new AbortController()
  // The model is slower: it is asked first. The question travels to the queue meanwhile, and the first token waits for both.
  const accepted = modelAsked().then(() =>
    makeDurable(services, [turn.question], request.log, {
      messageId,
      delaySeconds: hotStore.leaseSeconds + WATCH_AFTER_LEASE_SECONDS,
    }),
  )
  accepted.catch(() => undefined) // Awaited before the first token; until then its failure must not end the process.

  const asked: GenerateRequest = {
    tenant,
    messageId,
    question,
    history: turn.history,
    settings: effectiveSettings(services.defaults, turn.settings),
    locale: request.locale,
    accepted,
    stop: stop.signal,
    abandon: AbortSignal.any([request.signal, abandon.signal]),
    log: request.log,
  }
  const session: ReplyEvent = {
    type: 'session',
    sessionId: turn.sessionId,
    threadId: turn.question.thread_id,
    userMessageId: turn.question.id,
    messageId,
    created: turn.created,
    resumeUrl: await services.resumeUrl(turn, messageId),
  }
  const written = yield* writeLog(hotStore, lease, (tell) => generate(services, asked, tell), {
    opening: session,
    onStop: () => stop.abort(new Error('asked to stop')),
    onAbandon: (reason) => abandon.abort(new Error(reason)),
    endBy: request.endBy,
    arrivedAt: request.arrivedAt,
    log: request.log,
    measure: services.measure,
  })
  if (written.held) yield* conclude(services, request, turn, lease, written)
  else yield* relay(services, request, lease, written.sent)
}
