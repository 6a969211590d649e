/** The stages of an answer up to its last token: context, retrieval, model. */

import { readText } from '../messages/large-text.ts'
import type { Tenant } from '../protocol/callers.ts'
import type { FinishReason, Locale, ReplyEvent, ReplyStage, Source } from '../protocol/chat.ts'
import { CodedError } from '../protocol/errors.ts'
import type { MessageStatus } from '../protocol/messages.ts'
import type { Measure } from '../protocol/metrics.ts'
import type { TenantSettings } from '../protocol/tenants.ts'
import { estimateTokens } from '../protocol/text.ts'
import type { Bucket } from '../services/bucket.ts'
import type { ChatModel, ModelUsage } from '../services/chat-model.ts'
import type { HistoryMessage } from '../services/hot-store.ts'
import { answerText } from './answer-text.ts'
import { buildContext, type ReplyContext } from './context.ts'
import type { Log } from './log.ts'
import { stagePhrases } from './phrases.ts'
import { type Failure, INTERRUPTED } from './terminal.ts'

export interface GenerateServices {
  model: ChatModel
  bucket: Bucket
  measure: Measure
  /** Passages for the question, best first. Absent: this environment has no knowledge to search. */
  search?: (tenant: Tenant, question: string, history: readonly HistoryMessage[]) => Promise<Source[]>
}

export interface GenerateRequest {
  tenant: Tenant
  messageId: string
  /** Its text, which may stand in the bucket. */
  question: () => Promise<string>
  history: readonly HistoryMessage[]
  settings: TenantSettings
  locale: Locale
  /** Resolves when the question is durable; no token leaves before. */
  accepted: Promise<void>
  /** Somebody asked to stop: what there is becomes the answer. */
  stop: AbortSignal
  /** This writer must end: what there is is kept as interrupted. */
  abandon: AbortSignal
  log: Log
}

/** What an answer came to, before it is known whether it could be saved. */
export interface Generated {
  text: string
  sources: Source[]
  status: MessageStatus
  finishReason: FinishReason
  /** Undefined where the answer did not fail. */
  failure: Failure | undefined
  model: string
  promptTokens: number
  completionTokens: number
  contextLength: number
}

/** Longest text of one event: an event must fit into a row of the log, whatever the model sends at once. */
const MAX_TOKEN_CHARACTERS = 4_000

/**
 * Tells each event as it comes, by a call: tokens come by the thousand, and each would wait for a generator. Never throws:
 * what fails is part of what was generated.
 */
export async function generate(
  services: GenerateServices,
  request: GenerateRequest,
  tell: (event: ReplyEvent) => void,
): Promise<Generated> {
  const enter = (stage: ReplyStage): void =>
    tell({ type: 'status', stage, message: stagePhrases[request.locale][stage] })
  const signal = AbortSignal.any([request.stop, request.abandon])
  const text = answerText()
  let context: ReplyContext = { messages: [], historyLength: 0 }
  let sources: Source[] = []
  let usage: ModelUsage | undefined
  let { model } = request.settings
  let ending: Pick<Generated, 'status' | 'finishReason' | 'failure'>
  try {
    enter('analyzing')
    const question = await request.question()
    const history = await readHistory(services.bucket, request.history, request.log)
    if (services.search) {
      enter('searching')
      sources = await services.search(request.tenant, question, history)
    }
    context = buildContext(history, question, request.settings)
    enter('answering')
    ending = { status: 'complete', finishReason: 'stop', failure: undefined }
    let durable = false
    const askedAt = performance.now()
    const { answerTokens } = request.settings
    const asked = { model, messages: context.messages, answerTokens }
    const speak = (content: string): undefined => {
      for (const token of tokens(text.add(content))) tell(token)
    }
    const begin = async (content: string): Promise<void> => {
      services.measure('ModelTimeToFirstToken', performance.now() - askedAt)
      await request.accepted
      durable = true
      speak(content)
    }
    const said = await services.model.stream(asked, signal, (content) =>
      durable ? speak(content) : begin(content),
    )
    await request.accepted
    ending.finishReason = said.finishReason
    usage = said.usage
    model = said.model
    for (const token of tokens(text.end())) tell(token)
    if (sources.length > 0) tell({ type: 'sources', sources })
  } catch (error) {
    ending = await endingOf(error, request, text.text !== '')
    if (ending.failure)
      request.log.warn('answer failed', { messageId: request.messageId, code: ending.failure.code, error })
  }
  return {
    ...ending,
    text: text.text,
    sources,
    model,
    promptTokens:
      usage?.promptTokens ?? context.messages.reduce((sum, { content }) => sum + estimateTokens(content), 0),
    completionTokens: usage?.completionTokens ?? estimateTokens(text.text),
    contextLength: context.historyLength,
  }
}

/** A text as events, each small enough for a row of the log. */
export function* tokens(text: string): Generator<ReplyEvent> {
  for (let from = 0; from < text.length; ) {
    let to = Math.min(from + MAX_TOKEN_CHARACTERS, text.length)
    // Never between the halves of a pair.
    if (to < text.length && (text.codePointAt(to - 1) ?? 0) > 0xffff) to += 1
    yield { type: 'token', content: text.slice(from, to) }
    from = to
  }
}

async function endingOf(
  error: unknown,
  { accepted, stop, abandon }: GenerateRequest,
  spoken: boolean,
): Promise<Pick<Generated, 'status' | 'finishReason' | 'failure'>> {
  const interrupted = (failure: Failure) =>
    ({ status: 'interrupted', finishReason: 'stop', failure }) as const
  const durable = await accepted.then(
    () => true,
    () => false,
  )
  if (!durable) return interrupted({ code: 'not_saved', retryable: true })
  if (abandon.aborted) return interrupted(INTERRUPTED)
  if (stop.aborted) return { status: 'stopped', finishReason: 'stopped', failure: undefined }
  if (!(error instanceof CodedError)) return interrupted({ code: 'internal', retryable: true })
  if (spoken || error.code !== 'model_unavailable') return interrupted(INTERRUPTED)
  return interrupted({
    code: 'model_unavailable',
    retryable: (error.details as { retryable: boolean }).retryable,
  })
}

/** History with its large texts. One that cannot be read is left out rather than failing the answer. */
async function readHistory(
  bucket: Bucket,
  history: readonly HistoryMessage[],
  log: Log,
): Promise<HistoryMessage[]> {
  const read = history.map(async (message) => {
    try {
      return { ...message, content: await readText(bucket, message) }
    } catch (error) {
      log.warn('large message left out of the context', { messageId: message.id, error })
      return undefined
    }
  })
  return (await Promise.all(read)).filter((message) => message !== undefined)
}
