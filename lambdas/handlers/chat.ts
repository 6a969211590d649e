/** Answers: streamed as server-sent events, waited for, resumed, stopped, made again. */
import { setTimeout as sleep } from 'node:timers/promises'
import { saveEarly } from '../messages/save.ts'
import { eventIdSchema, resumeSchema, uuidSchema } from '../protocol/addresses.ts'
import {
  type ChatRequest,
  chatRequestSchema,
  idempotencyKeySchema,
  type Locale,
  type NumberedEvent,
} from '../protocol/chat.ts'
import { CodedError } from '../protocol/errors.ts'
import { countCharacters, MAX_MESSAGE_CHARACTERS } from '../protocol/text.ts'
import { follow, type Reader, readReply } from '../replies/follow.ts'
import { type ReplyRequest, type ReplyServices, regenerate, reply } from '../replies/reply.ts'
import { stop } from '../replies/stop.ts'
import { waitForAnswer } from '../replies/wait.ts'
import { MAX_BELIEVED_TOKENS, openAuthenticate } from '../runtime/authenticate.ts'
import {
  authSettings,
  databaseSettings,
  hotStoreSettings,
  limitSettings,
  readConfig,
  tenantDefaultSettings,
} from '../runtime/config.ts'
import {
  type Answer,
  beside,
  type Call,
  check,
  type Identify,
  routing,
  streamingHandler,
} from '../runtime/http.ts'
import { openRequestLimits } from '../runtime/limits.ts'
import { openLogger } from '../runtime/logger.ts'
import { openMetrics } from '../runtime/metrics.ts'
import { openResumeTokens } from '../runtime/resume-token.ts'
import { eventStream, eventStreamHeaders } from '../runtime/server-sent-events.ts'
import { shutdown } from '../runtime/shutdown.ts'
import { boundedMap } from '../services/bounded-map.ts'
import { openBucket } from '../services/bucket.ts'
import { openChatModel } from '../services/chat-model.ts'
import { IMPATIENT, openDatabase } from '../services/database.ts'
import { openHotStore } from '../services/open-hot-store.ts'
import { openPostgresLimiter } from '../services/postgres-limiter.ts'
import { openSecrets } from '../services/secrets.ts'
import { openTurnQueue } from '../services/turn-queue.ts'
import { ownedBy, requireOwnUserId } from '../sessions/sessions.ts'
import { auditReply } from '../tenants/audit.ts'
import { defaultsOf } from '../tenants/settings.ts'

/** Kept back from Lambda's own limit, to save a partial answer and say so. */
const ENDING_MS = 15_000
/** After every event of a log. */
const LAST_EVENT = 999_999_999

const config = readConfig([
  ...authSettings,
  ...databaseSettings,
  ...hotStoreSettings,
  ...limitSettings,
  ...tenantDefaultSettings,
  'contentBucket',
  'metricsNamespace',
  'modelFirstTokenMs',
  'modelKeySecretArn',
  'modelSilenceMs',
  'openaiBaseUrl',
  'pseudonymSecretArn',
  'resumeSecretArn',
  'turnsQueueUrl',
  'waitMs',
])
const log = openLogger('chat')
const { count, measure, flush } = openMetrics('chat', config)
const authenticate = openAuthenticate(config, boundedMap(MAX_BELIEVED_TOKENS))
const secrets = openSecrets({
  modelKey: config.modelKeySecretArn,
  origin: config.originSecretArn,
  pseudonymKey: config.pseudonymSecretArn,
  resume: config.resumeSecretArn,
})
const database = openDatabase({ ...config, measure })
const { hotStore, limiter = openPostgresLimiter(openDatabase({ ...config, ...IMPATIENT })) } =
  await openHotStore(config, { database, save: saveEarly(database), count, measure })
const requestLimits = openRequestLimits({
  ...config,
  limiter,
  originSecret: secrets.origin,
  count,
  log,
})
const route = routing(log, requestLimits)
const resumeTokens = openResumeTokens(secrets.resume)
const services: ReplyServices = {
  database,
  hotStore,
  queue: openTurnQueue(config.turnsQueueUrl),
  bucket: openBucket(config.contentBucket),
  pseudonymKey: secrets.pseudonymKey,
  count,
  measure,
  defaults: defaultsOf(config),
  model: openChatModel({
    baseUrl: config.openaiBaseUrl,
    apiKey: secrets.modelKey,
    firstTokenMs: config.modelFirstTokenMs,
    silenceMs: config.modelSilenceMs,
  }),
  resumeUrl: async ({ question }, messageId) => {
    const reader = { companyId: question.company_id, platform: question.platform, userId: question.user_id }
    return `/api/chat/stream/${messageId}?token=${await resumeTokens.issue(reader, messageId)}`
  },
}

type AnyCall = Call<unknown, unknown>
type ChatCall = Call<ChatRequest, undefined>

/** The language that the client asks for or, where it says nothing, the one the question is written in. */
const localeOf = (call: AnyCall, question = ''): Locale => {
  const accepted = call.header('accept-language') ?? '*'
  if (accepted.startsWith('*')) return /\p{Script=Hangul}/u.test(question) ? 'ko' : 'en'
  return /^\s*ko\b/i.test(accepted) ? 'ko' : 'en'
}

const messageIdOf = (call: AnyCall): string => check(uuidSchema, call.param('id'), 'id')

const requestOf = (call: AnyCall): ReplyRequest => ({
  caller: call.caller,
  admission: call.admission,
  ownedBy: ownedBy(call.caller),
  locale: localeOf(call),
  signal: shutdown,
  endBy: Date.now() + call.remainingMs() - ENDING_MS,
  arrivedAt: call.arrivedAt,
  log: call.log,
})

const readerOf = (call: AnyCall): Reader => {
  const { caller, signal, endBy, log } = requestOf(call)
  return { tenant: caller, ownedBy: ownedBy(caller), signal, endBy, log }
}

/** The reply to a checked request; whatever refuses it before its first event is thrown by the first `next`. */
function replyTo(call: ChatCall): AsyncGenerator<NumberedEvent[], void> {
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
  return reply(services, {
    ...requestOf(call),
    locale: call.body.locale ?? localeOf(call, call.body.message),
    chat: call.body,
    idempotencyKey: key === undefined ? undefined : check(idempotencyKeySchema, key, 'Idempotency-Key'),
  })
}

/** The events with the first ones already there: refusals have become errors, so a 200 may be promised. */
async function begun(events: AsyncGenerator<NumberedEvent[], void>): Promise<AsyncIterable<NumberedEvent[]>> {
  const first = await events.next()
  let next = async () => {
    next = () => events.next()
    return first
  }
  // Not a generator: each batch would wait for one more.
  return { [Symbol.asyncIterator]: () => ({ next: () => next() }) }
}

function streamed(events: AsyncIterable<NumberedEvent[]>): Answer {
  const { body, finished } = eventStream(events)
  return { status: 200, headers: eventStreamHeaders, stream: body, afterwards: finished }
}

/** A reader without headers shows the token of its link instead. */
const identifyReader: Identify = async (event) => {
  const token = new URLSearchParams(event.rawQueryString).get('token')
  return token === null ? authenticate(event) : resumeTokens.verify(token, event.pathParameters?.id ?? '')
}

/** Where a reader goes on: after the event it saw last, by header or by query; -1 for the start. */
function readAfter(call: Call<unknown, { after?: string | undefined }>): number {
  const header = call.header('last-event-id')
  if (header !== undefined) return check(eventIdSchema, header, 'Last-Event-ID')
  return call.query.after === undefined ? -1 : check(eventIdSchema, call.query.after, 'after')
}

/** Its limits are checked by the call that opens the turn, so that the first token does not wait for another one. */
const question = { body: chatRequestSchema, limited: 'within' } as const

export const handler = streamingHandler(
  [
    route('POST /api/chat/stream', question, authenticate, async (call) =>
      streamed(await begun(replyTo(call))),
    ),

    route('POST /api/chat', question, authenticate, async (call) => {
      const { answer, turn, finished } = waitForAnswer(await begun(replyTo(call)))
      const patience = new AbortController()
      const outOfPatience = sleep(config.waitMs, undefined, { signal: patience.signal }).catch(
        () => undefined,
      )
      const body = await Promise.race([answer, outOfPatience]).finally(() => patience.abort())
      return body ? { status: 200, body } : { status: 202, body: await turn, afterwards: finished }
    }),

    route('POST /api/messages/{id}/regenerate', { limited: 'within' }, authenticate, async (call) =>
      streamed(await begun(regenerate(services, requestOf(call), messageIdOf(call)))),
    ),

    // Within: a stream that was begun cannot be taken back.
    route(
      'GET /api/chat/stream/{id}',
      { query: resumeSchema, limited: 'within' },
      identifyReader,
      async (call) => {
        const [reader, messageId, after] = [readerOf(call), messageIdOf(call), readAfter(call)]
        const page = await beside(call.admission, () => readReply(hotStore, reader, messageId, after))
        await auditReply(database, call.caller, 'reply.read', { ...page, messageId })
        // Nothing is left to say: 204 tells an EventSource to stop reconnecting.
        if (page.finished && page.events.length === 0) return { status: 204 }
        // What can be refused has been: the stream begins at once, also while the answer is silent.
        return streamed(follow(services, reader, messageId, after, page))
      },
    ),

    route('DELETE /api/chat/stream/{id}', {}, authenticate, async (call) => {
      const [reader, messageId] = [readerOf(call), messageIdOf(call)]
      // Whose it is has to be known before: stopping another user's answer is recorded.
      const page =
        reader.ownedBy === null ? await hotStore.readLog(call.caller, null, messageId, LAST_EVENT) : undefined
      if (page?.finished === false)
        await auditReply(database, call.caller, 'reply.stopped', { ...page, messageId })
      const running = await stop(services, reader, messageId)
      return { status: running ? 202 : 200, body: { messageId } }
    }),
  ],
  { log, flush },
)
