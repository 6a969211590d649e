/** Answers: streamed as server-sent events, or waited for. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { ChatRequest } from '../protocol.ts'
import {
  CodedError,
  chatRequestSchema,
  countCharacters,
  idempotencyKeySchema,
  type Locale,
  MAX_MESSAGE_CHARACTERS,
} from '../protocol.ts'
import { type ReplyRequest, reply } from '../replies/reply.ts'
import { waitForAnswer } from '../replies/wait.ts'
import { openAuthenticate } from '../runtime/authenticate.ts'
import { readConfig } from '../runtime/config.ts'
import { type Call, check, route, streamingHandler } from '../runtime/http.ts'
import { openLogger } from '../runtime/logger.ts'
import { eventStream, eventStreamHeaders } from '../runtime/server-sent-events.ts'
import { shutdown } from '../runtime/shutdown.ts'
import { openChatModel } from '../services/chat-model.ts'
import { openContentStore } from '../services/content-store.ts'
import { openDatabase } from '../services/database.ts'
import { openPostgresHotStore } from '../services/postgres-hot-store.ts'
import { openTurnQueue } from '../services/turn-queue.ts'
import { requireOwnUserId } from '../sessions/sessions.ts'

/** Kept back from Lambda's own limit, to save a partial answer and say so. */
const ENDING_MS = 15_000
const DEFAULT_SYSTEM_PROMPT =
  'You are a helpful assistant. Answer in the language of the question, using the conversation so far.'

const config = readConfig([
  'answerTokens',
  'authAudience',
  'authIssuer',
  'authJwksUrl',
  'chatModel',
  'claimCompanyId',
  'claimPlatform',
  'claimRole',
  'claimUserId',
  'contentBucket',
  'databaseClusterArn',
  'databaseName',
  'databaseSecretArn',
  'historyMessages',
  'historyTokens',
  'leaseSeconds',
  'modelFirstTokenMs',
  'modelSilenceMs',
  'openaiApiKey',
  'openaiBaseUrl',
  'systemPrompt',
  'turnsQueueUrl',
  'waitMs',
])
const log = openLogger('chat')
const authenticate = openAuthenticate(config)
const services = {
  hotStore: openPostgresHotStore(
    openDatabase({
      clusterArn: config.databaseClusterArn,
      secretArn: config.databaseSecretArn,
      databaseName: config.databaseName,
    }),
    config,
  ),
  queue: openTurnQueue({ queueUrl: config.turnsQueueUrl }),
  content: openContentStore({ bucket: config.contentBucket }),
  model: openChatModel({
    baseUrl: config.openaiBaseUrl,
    apiKey: config.openaiApiKey,
    model: config.chatModel,
    answerTokens: config.answerTokens,
    firstTokenMs: config.modelFirstTokenMs,
    silenceMs: config.modelSilenceMs,
  }),
}
const limits = {
  systemPrompt: config.systemPrompt ?? DEFAULT_SYSTEM_PROMPT,
  historyTokens: config.historyTokens,
}

type ChatCall = Call<ChatRequest, undefined>

const localeOf = (call: ChatCall): Locale =>
  call.body.locale ?? (/^\s*ko\b/i.test(call.header('accept-language') ?? '') ? 'ko' : 'en')

/** The reply to a checked request; whatever refuses it before its first event is thrown by the first `next`. */
function replyTo(call: ChatCall) {
  requireOwnUserId(call.caller, call.body.userId)
  if (countCharacters(call.body.message) > MAX_MESSAGE_CHARACTERS)
    throw new CodedError(
      'message_too_long',
      `message must be at most ${MAX_MESSAGE_CHARACTERS} characters.`,
      {
        details: [{ field: 'message', message: `must be at most ${MAX_MESSAGE_CHARACTERS} characters` }],
      },
    )
  const key = call.header('idempotency-key')
  const request: ReplyRequest = {
    caller: call.caller,
    chat: call.body,
    idempotencyKey: key === undefined ? undefined : check(idempotencyKeySchema, key, 'Idempotency-Key'),
    locale: localeOf(call),
    limits,
    signal: AbortSignal.any([shutdown, AbortSignal.timeout(Math.max(0, call.remainingMs() - ENDING_MS))]),
    arrivedAt: call.arrivedAt,
    log,
  }
  return reply(services, request)
}

/** The events with the first one already there: refusals have become errors, so a 200 may be promised. */
async function begun<Event>(events: AsyncGenerator<Event, void>): Promise<AsyncIterable<Event>> {
  const first = await events.next()
  return (async function* () {
    if (first.done) return
    yield first.value
    yield* events
  })()
}

export const handler = streamingHandler(
  [
    route('POST /api/chat/stream', { body: chatRequestSchema }, authenticate, async (call) => {
      const { body, finished } = eventStream(await begun(replyTo(call)))
      return { status: 200, headers: eventStreamHeaders, stream: body, afterwards: finished }
    }),
    route('POST /api/chat', { body: chatRequestSchema }, authenticate, async (call) => {
      const { answer, turn, finished } = waitForAnswer(await begun(replyTo(call)))
      const patience = new AbortController()
      const outOfPatience = sleep(config.waitMs, undefined, { signal: patience.signal }).catch(
        () => undefined,
      )
      const body = await Promise.race([answer, outOfPatience]).finally(() => patience.abort())
      return body ? { status: 200, body } : { status: 202, body: await turn, afterwards: finished }
    }),
  ],
  log,
)
