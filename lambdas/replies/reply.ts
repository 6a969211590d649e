/**
 * The reply core: from an accepted question to exactly one ending, as an async generator of protocol events. It
 * knows neither Lambda nor HTTP. docs/protocol.md specifies it: states, invariants, and the test of each.
 *
 * Until the first event it may throw: a CodedError is a refusal, and nothing was changed. From then on whatever goes
 * wrong is an event. The consumer must read to the end, also when its client has gone: the turn is being saved.
 */
import { createHash } from 'node:crypto'
import { v7 as uuidv7 } from 'uuid'
import {
  type Caller,
  type ChatRequest,
  CodedError,
  type FinishReason,
  type Locale,
  type MessageRecord,
  type MessageStatus,
  type ReplyEvent,
  type ReplyStage,
  type Source,
  type Tenant,
} from '../protocol.ts'
import type { ChatModel, ModelUsage } from '../services/chat-model.ts'
import type { ContentStore } from '../services/content-store.ts'
import type {
  HotStore,
  OpenedTurn,
  StoredMessage,
  TurnLease,
  UnplacedQuestion,
} from '../services/hot-store.ts'
import type { TurnQueue } from '../services/turn-queue.ts'
import { answerText } from './answer-text.ts'
import { buildContext, type ContextLimits, estimateTokens, type ReplyContext } from './context.ts'
import { errorPhrases, stagePhrases } from './phrases.ts'
import { replay } from './replay.ts'

export interface Log {
  info(message: string, fields: Record<string, unknown>): void
  warn(message: string, fields: Record<string, unknown>): void
  error(message: string, fields: Record<string, unknown>): void
}

export interface ReplyServices {
  hotStore: HotStore
  queue: TurnQueue
  content: ContentStore
  model: ChatModel
  /** Passages for the question, best first. Absent: this environment has no knowledge to search. */
  search?: (tenant: Tenant, question: string, history: readonly StoredMessage[]) => Promise<Source[]>
}

export interface ReplyRequest {
  caller: Caller
  chat: ChatRequest
  idempotencyKey: string | undefined
  locale: Locale
  limits: ContextLimits
  /** Aborts when this process must end: the answer is then kept as interrupted. */
  signal: AbortSignal
  /** Milliseconds since the epoch. */
  arrivedAt: number
  log: Log
}

/** Long enough to recognise a conversation in a list. */
const TITLE_CHARACTERS = 60

const titleOf = (message: string): string =>
  [
    ...message
      .trim()
      .replace(/\s+/g, ' ')
      .slice(0, TITLE_CHARACTERS * 2),
  ]
    .slice(0, TITLE_CHARACTERS)
    .join('')

const hashOf = (chat: ChatRequest): string => createHash('sha256').update(JSON.stringify(chat)).digest('hex')

export async function* reply(
  services: ReplyServices,
  request: ReplyRequest,
): AsyncGenerator<ReplyEvent, void> {
  const { caller, chat, idempotencyKey } = request
  const tenant = { companyId: caller.companyId, platform: caller.platform }
  const messageId = uuidv7()
  const question = await unplacedQuestion(services.content, tenant, chat)
  const turn = await services.hotStore.openTurn({
    tenant,
    sessionId: chat.sessionId ?? uuidv7(),
    threadId: chat.threadId,
    owner: chat.userId ?? caller.userId,
    ownedBy: caller.role === 'user' ? caller.userId : (chat.userId ?? null),
    channel: chat.channel ?? null,
    title: titleOf(chat.message),
    messageId,
    question,
    parentMessageId: chat.parentMessageId,
    idempotency:
      idempotencyKey === undefined
        ? undefined
        : { caller: caller.userId, key: idempotencyKey, bodyHash: hashOf(chat) },
  })
  if (turn.outcome === 'opened')
    yield* answer(services, request, turn, { tenant, messageId, epoch: turn.epoch })
  else yield* replay(services, request, turn)
}

/**
 * A question without its place. A large text moves to its object before the turn is opened, because the hot store
 * must not hold it; the object of a turn that is then refused is never read.
 */
async function unplacedQuestion(
  content: ContentStore,
  tenant: Tenant,
  chat: ChatRequest,
): Promise<UnplacedQuestion> {
  const record: MessageRecord = {
    company_id: tenant.companyId,
    platform: tenant.platform,
    id: uuidv7(),
    session_id: '',
    thread_id: chat.threadId,
    role: 'user',
    content: chat.message,
    content_key: null,
    status: 'complete',
    token_count: estimateTokens(chat.message),
    response_time_ms: null,
    model: null,
    sources: [],
    metadata: chat.attachments ? { ...chat.metadata, attachments: chat.attachments } : chat.metadata,
    parent_message_id: null,
    sequence_number: 1,
    created_at: '',
    user_id: '',
  }
  const { session_id, user_id, parent_message_id, sequence_number, created_at, ...unplaced } =
    await content.stow(record)
  return unplaced
}

/** How an answer ended, before it is known whether it could be saved. */
interface Ending {
  status: MessageStatus
  finishReason: FinishReason
  /** Undefined where the answer did not fail. */
  failure:
    | { code: 'not_saved' | 'interrupted' | 'model_unavailable' | 'internal'; retryable: boolean }
    | undefined
  model: string
  usage: ModelUsage | undefined
}

interface Answering {
  text: string
  sources: Source[]
  context: ReplyContext
}

async function* answer(
  services: ReplyServices,
  request: ReplyRequest,
  turn: OpenedTurn,
  lease: TurnLease,
): AsyncGenerator<ReplyEvent, void> {
  const taken = new AbortController()
  const stopRenewing = renewLease(services.hotStore, lease, request.log, () =>
    taken.abort(new Error('the turn was taken over')),
  )
  try {
    // The question travels to the queue while the model is being asked; the first token waits for both.
    const accepted = services.queue.send([...turn.rescued, turn.question])
    accepted.catch(() => undefined) // Awaited below; until then its failure must not end the process.

    yield {
      type: 'session',
      sessionId: turn.sessionId,
      threadId: turn.question.thread_id,
      userMessageId: turn.question.id,
      messageId: lease.messageId,
      created: turn.created,
    }
    const signal = AbortSignal.any([request.signal, taken.signal])
    const answering: Answering = { text: '', sources: [], context: { messages: [], historyLength: 0 } }
    const ending = yield* speak(services, request, turn, { lease, accepted, signal, answering })
    if (taken.signal.aborted) yield failed(request, lease, { code: 'interrupted', retryable: true })
    else yield* conclude(services, request, turn, lease, answering, ending)
  } finally {
    stopRenewing()
  }
}

/** The stages up to the last token. Never throws: what fails is the ending. */
async function* speak(
  services: ReplyServices,
  request: ReplyRequest,
  turn: OpenedTurn,
  {
    lease,
    accepted,
    signal,
    answering,
  }: { lease: TurnLease; accepted: Promise<void>; signal: AbortSignal; answering: Answering },
): AsyncGenerator<ReplyEvent, Ending> {
  const status = (stage: ReplyStage): ReplyEvent => ({
    type: 'status',
    stage,
    message: stagePhrases[request.locale][stage],
  })
  const text = answerText()
  let ending: Ending = {
    status: 'interrupted',
    finishReason: 'stop',
    failure: { code: 'internal', retryable: true },
    model: services.model.name,
    usage: undefined,
  }
  try {
    yield status('analyzing')
    const history = await readLarge(services.content, turn.history, request.log)
    if (services.search) {
      yield status('searching')
      answering.sources = await services.search(lease.tenant, request.chat.message, history)
    }
    answering.context = buildContext(history, request.chat.message, request.limits)
    yield status('answering')
    for await (const part of services.model.stream(answering.context.messages, signal)) {
      await accepted
      if (part.type === 'end') {
        ending = { status: 'complete', failure: undefined, ...part }
        continue
      }
      const content = text.add(part.content)
      answering.text = text.text
      if (content !== '') yield { type: 'token', content }
    }
    if (answering.sources.length > 0) yield { type: 'sources', sources: answering.sources }
  } catch (error) {
    const failure = await failureOf(error, accepted, text.text !== '', signal)
    request.log.warn('answer failed', { messageId: lease.messageId, code: failure.code, error })
    ending = { ...ending, status: 'interrupted', failure }
  }
  const rest = text.end()
  answering.text = text.text
  if (rest !== '') yield { type: 'token', content: rest }
  return ending
}

async function failureOf(
  error: unknown,
  accepted: Promise<void>,
  spoken: boolean,
  signal: AbortSignal,
): Promise<NonNullable<Ending['failure']>> {
  const saved = await accepted.then(
    () => true,
    () => false,
  )
  if (!saved) return { code: 'not_saved', retryable: true }
  if (signal.aborted) return { code: 'interrupted', retryable: true }
  if (!(error instanceof CodedError)) return { code: 'internal', retryable: true }
  if (spoken || error.code !== 'model_unavailable') return { code: 'interrupted', retryable: true }
  return { code: 'model_unavailable', retryable: (error.details as { retryable: boolean }).retryable }
}

/** Makes the answer durable, shows it to every reader, frees the thread, and only then says how it ended. */
async function* conclude(
  services: ReplyServices,
  request: ReplyRequest,
  turn: OpenedTurn,
  lease: TurnLease,
  answering: Answering,
  ending: Ending,
): AsyncGenerator<ReplyEvent, void> {
  const { log } = request
  const responseTime = Date.now() - request.arrivedAt
  const promptTokens =
    ending.usage?.promptTokens ??
    answering.context.messages.reduce((sum, { content }) => sum + estimateTokens(content), 0)
  const completionTokens = ending.usage?.completionTokens ?? estimateTokens(answering.text)
  let failure = ending.failure
  let record: MessageRecord = {
    ...turn.question,
    id: lease.messageId,
    role: 'assistant',
    content: answering.text,
    content_key: null,
    status: ending.status,
    token_count: completionTokens,
    response_time_ms: responseTime,
    model: ending.model,
    sources: answering.sources,
    metadata: {
      finishReason: ending.finishReason,
      promptTokens,
      contextLength: answering.context.historyLength,
    },
    parent_message_id: turn.question.id,
    sequence_number: turn.answerSequenceNumber,
    created_at: turn.openedAt,
  }
  try {
    record = await services.content.stow(record)
    await services.queue.send([record])
  } catch (error) {
    log.error('answer not saved', { messageId: lease.messageId, error })
    failure = { code: 'not_saved', retryable: true }
  }
  let sessionMessageCount: number | undefined
  try {
    sessionMessageCount = await services.hotStore.finishTurn(lease, record)
  } catch (error) {
    // The answer is durable in the queue; only reading it at once has to wait until it is saved.
    log.warn('turn not finished in the hot store', { messageId: lease.messageId, error })
  }
  log.info('turn ended', {
    sessionId: turn.sessionId,
    messageId: lease.messageId,
    outcome: failure?.code ?? ending.finishReason,
    model: ending.model,
    responseTime,
    promptTokens,
    completionTokens,
  })
  if (failure) {
    yield failed(request, lease, failure)
    return
  }
  yield {
    type: 'done',
    sessionId: turn.sessionId,
    messageId: lease.messageId,
    finishReason: ending.finishReason,
    metadata: {
      tokenUsage: promptTokens + completionTokens,
      promptTokens,
      completionTokens,
      responseTime,
      contextLength: answering.context.historyLength,
      sessionMessageCount: sessionMessageCount ?? turn.answerSequenceNumber,
      model: ending.model,
    },
  }
}

const failed = (
  request: ReplyRequest,
  lease: TurnLease,
  failure: NonNullable<Ending['failure']>,
): ReplyEvent => ({
  type: 'error',
  code: failure.code,
  message: errorPhrases[request.locale][failure.code],
  retryable: failure.retryable,
  messageId: lease.messageId,
})

/** History whose text stands in the bucket. One that cannot be read is left out rather than failing the answer. */
async function readLarge(
  content: ContentStore,
  history: readonly StoredMessage[],
  log: Log,
): Promise<StoredMessage[]> {
  const read = history.map(async (message) => {
    if (message.content_key === null) return message
    try {
      return { ...message, content: await content.read(message.content_key) }
    } catch (error) {
      log.warn('large message left out of the context', { messageId: message.id, error })
      return undefined
    }
  })
  return (await Promise.all(read)).filter((message) => message !== undefined)
}

/** Keeps the lease while the answer runs. A hot store that cannot be reached takes nothing over either. */
function renewLease(hotStore: HotStore, lease: TurnLease, log: Log, onTaken: () => void): () => void {
  const timer = setInterval(
    () =>
      hotStore.renewLease(lease).then(
        (kept) => {
          if (!kept) onTaken()
        },
        (error) => log.warn('lease not renewed', { messageId: lease.messageId, error }),
      ),
    (hotStore.leaseSeconds * 1_000) / 3,
  )
  return () => clearInterval(timer)
}
