/**
 * Every shape that crosses a process: what clients send and get, what stands in the queue, and the closed
 * list of error codes. Requests are checked at the edge with these schemas; inside, the types are trusted.
 */
import * as v from 'valibot'

// ---------------------------------------------------------------- text

/** Code points, not UTF-16 units, so that an emoji counts as one character in every client language. */
export const MAX_MESSAGE_CHARACTERS = 100_000
/** Metadata travels inside a queue record and a database row; it is bounded so that both always fit. */
export const MAX_METADATA_BYTES = 8_192
export const MAX_LABEL_CHARACTERS = 200

/** Postgres text cannot hold NUL, and UTF-8 cannot hold half of a surrogate pair. */
export const isStorableText = (text: string): boolean => !text.includes('\0') && text.isWellFormed()

/** What stands in place of a user's id after a year, as sql/operations/pseudonyms.sql knows it. Nobody has such an id. */
export const isPseudonym = (userId: string): boolean => /^anon_[0-9a-f]{32}$/.test(userId)

const UNSTORABLE = 'must not contain NUL or a lone surrogate'
const storable = v.check(isStorableText, UNSTORABLE)

/** Counts code points without building an array of them. */
export function countCharacters(text: string): number {
  let count = text.length
  for (let index = 0; index < text.length; index += 1) {
    const unit = text.charCodeAt(index)
    if (unit >= 0xd800 && unit <= 0xdbff) count -= 1
  }
  return count
}

/**
 * An estimate, not a tokenizer: a tokenizer belongs to one model and weighs more than a whole function. English
 * runs at about 4 characters a token, Korean and other scripts at about 1, so this errs on the large side.
 */
export function estimateTokens(text: string): number {
  let ascii = 0
  for (let index = 0; index < text.length; index += 1) if (text.charCodeAt(index) < 0x80) ascii += 1
  return Math.ceil(ascii / 4) + countCharacters(text) - ascii
}

const label = v.pipe(
  v.string(),
  v.check((text) => text.trim() !== '', 'must not be blank'),
  v.maxLength(MAX_LABEL_CHARACTERS, `must be at most ${MAX_LABEL_CHARACTERS} characters`),
  storable,
)
const uuid = v.pipe(v.string(), v.uuid('must be a UUID'), v.toLowerCase())

// Not Buffer: the page reads this file's types, and a browser has none.
const utf8Bytes = (text: string): number => new TextEncoder().encode(text).length

type JsonObject = Record<string, unknown>
const everyStringIsStorable = (value: unknown): boolean => {
  if (typeof value === 'string') return isStorableText(value)
  if (value === null || typeof value !== 'object') return true
  return Object.entries(value).every(([key, inner]) => isStorableText(key) && everyStringIsStorable(inner))
}
const jsonObject = v.custom<JsonObject>(
  (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
  'must be an object',
)
const metadata = v.pipe(
  jsonObject,
  v.check(
    (value: JsonObject) => utf8Bytes(JSON.stringify(value)) <= MAX_METADATA_BYTES,
    'must be at most 8 KB',
  ),
  v.check((value: JsonObject) => everyStringIsStorable(value), UNSTORABLE),
)

// ---------------------------------------------------------------- errors

export type ErrorCode =
  | 'invalid_request'
  | 'message_too_long'
  | 'unauthenticated'
  | 'forbidden'
  | 'not_found'
  | 'method_not_allowed'
  | 'reply_in_progress'
  | 'conflict'
  | 'idempotency_mismatch'
  | 'ended'
  | 'erased'
  | 'payload_too_large'
  | 'unsupported_media_type'
  | 'rate_limited'
  | 'quota_exceeded'
  | 'internal'
  | 'model_unavailable'
  | 'unavailable'

/** One wrong field of a request: a dotted path and what is expected of it. */
export interface FieldProblem {
  field: string
  message: string
}

/** An expected failure: its code and message are for the client, its cause only for the log. */
export class CodedError extends Error {
  readonly code: ErrorCode
  readonly details: unknown
  constructor(code: ErrorCode, message: string, options: { details?: unknown; cause?: unknown } = {}) {
    super(message, { cause: options.cause })
    this.name = 'CodedError'
    this.code = code
    this.details = options.details
  }
}

export const invalidField = (field: string, message: string): CodedError =>
  new CodedError('invalid_request', `${field} ${message}`, {
    details: [{ field, message }] satisfies FieldProblem[],
  })

export interface ErrorBody {
  error: { code: ErrorCode; message: string; requestId: string; details?: unknown }
}

// ---------------------------------------------------------------- callers

export const roles = ['user', 'agent', 'admin'] as const
export type Role = (typeof roles)[number]

export interface Tenant {
  companyId: string
  platform: string
}

/** A person who does something, as the audit log names them. */
export interface Actor {
  userId: string
  role: Role
}

/** Who is calling, as the verified token says. */
export interface Caller extends Tenant, Actor {}

// ---------------------------------------------------------------- limits

export type LimitKind = 'user' | 'tenant' | 'address'

/** One limit that a request is held to. */
export interface LimitCheck {
  kind: LimitKind
  /** Absent for addresses, which have none. */
  tenant?: Tenant
  /** The user's id, '' for the tenant, an address's keyed hash. */
  key: string
  /** Requests in any window; 0: none at all. */
  limit: number
  windowSeconds: number
  /** Requests that this one stands for; absent: itself. */
  count?: number
}

/** How a limit stands after a request was held to it. */
export interface LimitState {
  kind: LimitKind
  limit: number
  windowSeconds: number
  allowed: boolean
  /** Requests that would be let through now. */
  remaining: number
  /** Until the oldest request that counts does no more. */
  resetSeconds: number
  /** 0 where it was allowed. */
  retryAfterSeconds: number
}

/** The limits of one request, for whoever checks them in the same round trip as something else. */
export interface Admission {
  checks: readonly LimitCheck[]
  /** Told how they stand, once. Throws `rate_limited` where one did not allow the request. */
  settle(states: readonly LimitState[]): void
}

// ---------------------------------------------------------------- chat

export const locales = ['en', 'ko'] as const
export type Locale = (typeof locales)[number]

export const chatRequestSchema = v.strictObject({
  message: v.pipe(
    v.string(),
    v.check((text) => text.trim() !== '', 'must not be blank'),
    storable,
  ),
  sessionId: v.optional(uuid),
  userId: v.optional(label),
  threadId: v.optional(label, 'main'),
  channel: v.optional(label),
  parentMessageId: v.optional(v.nullable(uuid)),
  attachments: v.optional(v.pipe(v.array(uuid), v.maxLength(20, 'must be at most 20'))),
  metadata: v.optional(metadata, {}),
  locale: v.optional(v.picklist(locales, `must be one of ${locales.join(', ')}`)),
})
export type ChatRequest = v.InferOutput<typeof chatRequestSchema>

export const idempotencyKeySchema = v.pipe(
  v.string(),
  v.regex(/^[\x20-\x7e]{1,255}$/, 'must be 1 to 255 printable characters'),
)

export interface Source {
  id: string
  title: string
  score: number
  url?: string
  excerpt?: string
}

export type FinishReason = 'stop' | 'length' | 'stopped'
export type ReplyStage = 'analyzing' | 'searching' | 'answering'

export interface ReplyMetadata {
  tokenUsage: number
  promptTokens: number
  completionTokens: number
  /** Milliseconds from the request's arrival to the end of the answer. */
  responseTime: number
  /** Earlier messages that the model was given. */
  contextLength: number
  sessionMessageCount: number
  model: string
  /** True when the answer was replayed from what was saved. */
  cached?: boolean
}

export type ReplyEvent =
  | {
      type: 'session'
      sessionId: string
      threadId: string
      userMessageId: string
      messageId: string
      created: boolean
      resumeUrl?: string
    }
  | { type: 'status'; stage: ReplyStage; message: string }
  | { type: 'token'; content: string }
  | { type: 'sources'; sources: Source[] }
  | {
      type: 'done'
      sessionId: string
      messageId: string
      finishReason: FinishReason
      metadata: ReplyMetadata
    }
  | { type: 'error'; code: ReplyErrorCode; message: string; retryable: boolean; messageId: string }

/** An event and its place in the reply: 0, 1, 2, …, the same for every reader. */
export interface NumberedEvent {
  id: number
  event: ReplyEvent
}

/** What can go wrong once an answer has begun; before that it is an HTTP error. */
export type ReplyErrorCode = ErrorCode | 'not_saved' | 'interrupted'

/** What `POST /api/chat` returns when the answer is there in time. */
export interface ChatAnswer {
  sessionId: string
  threadId: string
  userMessageId: string
  messageId: string
  content: string
  sources: Source[]
  finishReason: FinishReason
  metadata: ReplyMetadata
}

// ---------------------------------------------------------------- sessions and messages

export interface BusinessFields {
  inquiryCategory: string | null
  satisfactionScore: number | null
  resolutionStatus: string | null
  priority: string | null
  followUpNeeded: boolean | null
  businessImpact: string | null
}

export interface Session extends BusinessFields {
  sessionId: string
  userId: string
  channel: string | null
  title: string | null
  createdAt: string
  lastActiveAt: string
  expiresAt: string
  /** Neither ended nor expired. */
  isActive: boolean
  /** Ended for good; an expired session, which a question revives, has none. */
  endedAt: string | null
  messageCount: number
  metadata: Record<string, unknown>
}

export type MessageRole = 'user' | 'assistant' | 'system'
export type MessageStatus = 'complete' | 'stopped' | 'interrupted'

export interface Message extends BusinessFields {
  messageId: string
  sessionId: string
  threadId: string
  role: MessageRole
  content: string
  status: MessageStatus
  /** 1 for a first question; otherwise the parent's plus one. Siblings share it. */
  sequenceNumber: number
  parentMessageId: string | null
  tokenCount: number | null
  responseTimeMs: number | null
  model: string | null
  sources: Source[]
  metadata: Record<string, unknown>
  createdAt: string
  /** Beside satisfactionScore, where somebody said more. */
  feedbackComment: string | null
}

export interface Page<Item> {
  items: Item[]
  nextCursor: string | null
}

export interface MessagePage {
  items: Message[]
  /** Pass it as `after` to read on, also where there are no items; null at the end. */
  nextAfter: number | null
}

const score = v.pipe(
  v.number(),
  v.integer('must be a whole number from 1 to 5'),
  v.minValue(1, 'must be from 1 to 5'),
  v.maxValue(5, 'must be from 1 to 5'),
)
const nullableLabel = v.optional(v.nullable(label))

export const sessionCreateSchema = v.strictObject({
  userId: v.optional(label),
  channel: v.optional(label),
  title: v.optional(label),
  metadata: v.optional(metadata, {}),
})
export type SessionCreate = v.InferOutput<typeof sessionCreateSchema>

/** A field that is absent stays; null clears it. */
export const sessionPatchSchema = v.strictObject({
  title: nullableLabel,
  metadata: v.optional(metadata),
  inquiryCategory: nullableLabel,
  satisfactionScore: v.optional(v.nullable(score)),
  resolutionStatus: nullableLabel,
  priority: nullableLabel,
  followUpNeeded: v.optional(v.nullable(v.boolean())),
  businessImpact: nullableLabel,
})
export type SessionPatch = v.InferOutput<typeof sessionPatchSchema>

export const feedbackSchema = v.strictObject({
  score,
  comment: v.optional(v.pipe(v.string(), v.maxLength(2_000, 'must be at most 2000 characters'), storable)),
})
export type Feedback = v.InferOutput<typeof feedbackSchema>

const limit = v.optional(
  v.pipe(
    v.string(),
    v.regex(/^\d{1,3}$/, 'must be a whole number from 1 to 100'),
    v.transform(Number),
    v.minValue(1, 'must be from 1 to 100'),
    v.maxValue(100, 'must be from 1 to 100'),
  ),
  '20',
)
const flag = v.pipe(
  v.picklist(['true', 'false'], 'must be true or false'),
  v.transform((text) => text === 'true'),
)

export const sessionListSchema = v.object({
  userId: v.optional(label),
  active: v.optional(flag),
  limit,
  cursor: v.optional(v.pipe(v.string(), v.maxLength(200))),
})
export type SessionListQuery = v.InferOutput<typeof sessionListSchema>

export const messageListSchema = v.object({
  threadId: v.optional(label),
  after: v.optional(
    v.pipe(v.string(), v.regex(/^\d{1,9}$/, 'must be a sequence number'), v.transform(Number)),
  ),
  limit,
  order: v.optional(v.picklist(['asc', 'desc'], 'must be asc or desc'), 'asc'),
})
export type MessageListQuery = v.InferOutput<typeof messageListSchema>

// ---------------------------------------------------------------- tenants

/** What a tenant may set for its answers. Each has a default in the environment. */
export interface TenantSettings {
  model: string
  systemPrompt: string
  /** Earlier messages that the model is given, and the tokens that they may have together. */
  historyMessages: number
  historyTokens: number
  /** 0: the model's own limit. */
  answerTokens: number
  /** Questions with one of these are counted. */
  watchedWords: string[]
  /** Requests in any 60 seconds, of one user and of all together. */
  userRequestsPerMinute: number
  tenantRequestsPerMinute: number
  // Tokens in a day and in a month (UTC), of one user and of all together; null: as many as there are.
  userTokensPerDay: number | null
  userTokensPerMonth: number | null
  tenantTokensPerDay: number | null
  tenantTokensPerMonth: number | null
  /** When messages leave Postgres for the archive: so old, or beyond the newest so many of a session. They stay readable. */
  archiveAfterDays: number
  archiveAboveMessages: number
  /** After so many days without use a conversation is removed; null: never. */
  retentionDays: number | null
}

export type Budgets = Pick<
  TenantSettings,
  'userTokensPerDay' | 'userTokensPerMonth' | 'tenantTokensPerDay' | 'tenantTokensPerMonth'
>

/** Why a question was refused with `quota_exceeded`: of several budgets the one that is there again last. */
export interface QuotaDetails {
  /** Whose budget it is: the session's owner's, or that of all users of the tenant together. */
  budget: 'user' | 'tenant'
  period: 'day' | 'month'
  limit: number
  /** In this period, with what the turns that are running may still use. */
  used: number
  /** When the next period begins. */
  resetsAt: string
}

/** What a tenant has set; what is absent is the environment's. */
export type OwnSettings = Partial<
  Omit<TenantSettings, keyof Budgets | 'retentionDays'> & Record<keyof Budgets | 'retentionDays', number>
>

export interface TenantAnswer {
  /** What acts. */
  settings: TenantSettings
  /** What of it the tenant has set itself. */
  own: OwnSettings
  /** Those that `model` may name. */
  models: readonly string[]
  /** Raised by every change; 0: nothing was ever set. */
  version: number
  changedAt: string | null
}

// A tenant's settings are one row of the Data API, which holds 64 KB, whatever characters they are made of.
export const MAX_SYSTEM_PROMPT_CHARACTERS = 8_000
const MAX_WATCHED_WORDS = 30
const MAX_WATCHED_WORD_CHARACTERS = 50
/** 20 of the largest messages that stand in a row fit into one response. */
export const MAX_HISTORY_MESSAGES = 20
export const MAX_TOKENS = 1_000_000
export const MAX_ARCHIVE_DAYS = 3_650
// Far more than a model is given of a session, and more than any has.
export const MIN_ARCHIVE_MESSAGES = 100
export const MAX_ARCHIVE_MESSAGES = 1_000_000
/** A century. */
const MAX_RETENTION_DAYS = 36_500
/** Far more than anybody uses in a month, and every sum of it is still exact in JSON. */
export const MAX_BUDGET_TOKENS = 1_000_000_000_000

const notBlank = v.check((text: string) => text.trim() !== '', 'must not be blank')
const atMostCharacters = (most: number) =>
  v.check((text: string) => countCharacters(text) <= most, `must be at most ${most} characters`)
const wholeNumber = (max: number, min = 0) =>
  v.pipe(
    v.number(),
    v.check(
      (value) => Number.isInteger(value) && value >= min && value <= max,
      `must be a whole number from ${min} to ${max}`,
    ),
  )
const resettable = <Schema extends v.GenericSchema>(schema: Schema) => v.optional(v.nullable(schema))

/** What the environment allows: others' share depends on it. */
export interface TenantBounds {
  models: readonly string[]
  /** The most requests of a tenant, and so of any of its users. */
  maxRequestsPerMinute: number
  /** The most tokens of a tenant; null: as many as there are. What its users may use of them is its own business. */
  maxTokensPerDay: number | null
  maxTokensPerMonth: number | null
}

/** What is absent stays; null takes a setting back to the environment's value. */
export const tenantPatchSchema = ({
  models,
  maxRequestsPerMinute,
  maxTokensPerDay,
  maxTokensPerMonth,
}: TenantBounds) =>
  v.strictObject({
    model: resettable(v.picklist(models, `must be one of ${models.join(', ')}`)),
    systemPrompt: resettable(
      v.pipe(v.string(), notBlank, atMostCharacters(MAX_SYSTEM_PROMPT_CHARACTERS), storable),
    ),
    historyMessages: resettable(wholeNumber(MAX_HISTORY_MESSAGES)),
    historyTokens: resettable(wholeNumber(MAX_TOKENS)),
    answerTokens: resettable(wholeNumber(MAX_TOKENS)),
    watchedWords: resettable(
      v.pipe(
        v.array(v.pipe(v.string(), notBlank, atMostCharacters(MAX_WATCHED_WORD_CHARACTERS), storable)),
        v.maxLength(MAX_WATCHED_WORDS, `must be at most ${MAX_WATCHED_WORDS} words`),
      ),
    ),
    userRequestsPerMinute: resettable(wholeNumber(maxRequestsPerMinute, 1)),
    tenantRequestsPerMinute: resettable(wholeNumber(maxRequestsPerMinute, 1)),
    userTokensPerDay: resettable(wholeNumber(MAX_BUDGET_TOKENS)),
    userTokensPerMonth: resettable(wholeNumber(MAX_BUDGET_TOKENS)),
    tenantTokensPerDay: resettable(wholeNumber(maxTokensPerDay ?? MAX_BUDGET_TOKENS)),
    tenantTokensPerMonth: resettable(wholeNumber(maxTokensPerMonth ?? MAX_BUDGET_TOKENS)),
    archiveAfterDays: resettable(wholeNumber(MAX_ARCHIVE_DAYS, 1)),
    archiveAboveMessages: resettable(wholeNumber(MAX_ARCHIVE_MESSAGES, MIN_ARCHIVE_MESSAGES)),
    retentionDays: resettable(wholeNumber(MAX_RETENTION_DAYS, 1)),
  })
export type TenantPatch = v.InferOutput<ReturnType<typeof tenantPatchSchema>>

/** An `If-Match` header: the version that a change is meant for, as `ETag` gave it, also where a proxy weakened it. */
export const versionSchema = v.pipe(
  v.string(),
  v.regex(/^(W\/)?"\d{1,9}"$/, 'must be the ETag of an earlier answer'),
  v.transform((tag) => Number(/\d+/.exec(tag)?.[0])),
)

// ---------------------------------------------------------------- usage

export interface UsageSums {
  /** Answers, each by itself also where a question has several. */
  turns: number
  promptTokens: number
  completionTokens: number
  /** Both together. */
  tokens: number
  /** What has a price, by the price of its day. */
  cost: number
  /** Of models without one. */
  unpricedTokens: number
}

/** Days first to last; users and models with most tokens first. */
export type UsageItem = UsageSums & ({ day: string } | { userId: string } | { model: string })

export interface UsageAnswer {
  from: string
  to: string
  by: 'day' | 'user' | 'model'
  currency: 'USD'
  /** From when the newest of the prices is. */
  pricesAsOf: string
  items: UsageItem[]
  /** Of all days, users or models, also those on other pages. */
  total: UsageSums
  nextCursor: string | null
}

/** As Postgres takes it, which knows no 31st of February and no year 0. */
function isDay(text: string): boolean {
  const time = /^\d{4}-\d{2}-\d{2}$/.test(text) ? Date.parse(`${text}T00:00:00Z`) : Number.NaN
  return !Number.isNaN(time) && !text.startsWith('0000') && new Date(time).toISOString().startsWith(text)
}
const day = v.pipe(v.string(), v.check(isDay, 'must be a day of the calendar, YYYY-MM-DD'))

export const usageQuerySchema = v.object({
  from: v.optional(day),
  to: v.optional(day),
  by: v.optional(v.picklist(['day', 'user', 'model'], 'must be day, user or model'), 'day'),
  userId: v.optional(label),
  limit,
  cursor: v.optional(v.pipe(v.string(), v.maxLength(2_000))),
})
export type UsageQuery = v.InferOutput<typeof usageQuerySchema>

// ---------------------------------------------------------------- the audit log

/** What is recorded; sql/operations writes these. */
export type AuditAction =
  | 'tenant.changed'
  | 'sessions.listed'
  | 'session.created'
  | 'session.read'
  | 'session.changed'
  | 'session.ended'
  | 'session.purged'
  | 'messages.read'
  | 'message.rated'
  | 'message.deleted'
  | 'question.asked'
  | 'answer.regenerated'
  | 'reply.read'
  | 'reply.stopped'
  | 'usage.read'
  | 'user.read'
  | 'user.exported'
  | 'user.erased'

/** Who did what with whose data, without content. */
export interface AuditEntry {
  at: string
  actorId: string
  actorRole: Role
  action: AuditAction
  /** Whose data it was; null: the tenant's, or all users'. */
  userId: string | null
  sessionId: string | null
  messageId: string | null
  /** Names of what was changed. */
  fields: string[]
}

export const auditListSchema = v.object({
  userId: v.optional(label),
  limit,
  cursor: v.optional(v.pipe(v.string(), v.maxLength(200))),
})
export type AuditListQuery = v.InferOutput<typeof auditListSchema>

// ---------------------------------------------------------------- the rights of users

export type JobKind = 'export' | 'erasure'

/** Background work for a user, as it stands in the jobs queue. */
export const jobMessageSchema = v.object({ companyId: v.string(), platform: v.string(), jobId: uuid })
export type JobMessage = v.InferOutput<typeof jobMessageSchema>

/** What stands in an export, one JSON object a line; each line says which it is. */
export type ExportLineKind = 'session' | 'message' | 'feedback' | 'usage' | 'audit'

export interface ExportAnswer {
  exportId: string
  userId: string
  /** expired: it was there, and has had its time. */
  status: 'queued' | 'running' | 'ready' | 'failed' | 'expired'
  /** So far; of one that is ready, all. */
  progress: { sessions: number; messages: number }
  createdAt: string
  completedAt: string | null
  /** Of NDJSON, gzip; the link alone is enough to have it, and ends. Null until it is ready. */
  download: { url: string; expiresAt: string } | null
}

export interface ErasureReceipt {
  erasureId: string
  userId: string
  status: 'queued' | 'running' | 'done' | 'failed'
  requestedAt: string
  completedAt: string | null
  /** Where something of the user could have stood, and how much of it was removed. No content. */
  places: { place: ErasedPlace; removed: number }[]
}

export const erasedPlaces = [
  'runningAnswers',
  'sessions',
  'messages',
  'turns',
  'largeTexts',
  'hotStore',
  'archiveMessages',
  'archiveObjects',
  'spool',
  'exports',
  'keys',
  'usageDays',
] as const
export type ErasedPlace = (typeof erasedPlaces)[number]

/** What there is of a user, at a glance. */
export interface UserAnswer {
  userId: string
  sessions: number
  messages: number
  /** The newest of each. */
  export: ExportAnswer | null
  erasure: ErasureReceipt | null
}

/** A user's id where it stands in an address, decoded. */
export const userIdSchema = label

// ---------------------------------------------------------------- parts of addresses

export const uuidSchema = uuid
export const eventIdSchema = v.pipe(
  v.string(),
  v.regex(/^\d{1,9}$/, 'must be the id of an event'),
  v.transform(Number),
)
export const resumeSchema = v.object({ after: v.optional(v.string()), token: v.optional(v.string()) })
export const purgeSchema = v.object({ purge: v.optional(flag, 'false') })

// ---------------------------------------------------------------- what is measured

/** Every metric and its unit. docs/runbook.md says what each means; dashboards and alarms are made of them. */
export const metricUnits = {
  /** From a request's arrival at the function until its first token may leave. */
  TimeToFirstToken: 'Milliseconds',
  /** From the call of the model to its first text, all attempts together. */
  ModelTimeToFirstToken: 'Milliseconds',
  /** From a request's arrival at the function until its last event may leave. */
  AnswerTime: 'Milliseconds',
  // Each answer is one of these, once: counted by whoever writes its last event into the reply log.
  AnswersComplete: 'Count',
  AnswersStopped: 'Count',
  /** Kept as far as it came. */
  AnswersInterrupted: 'Count',
  /** Any other error: the model never spoke, nothing took the answer, or the fault is ours. */
  AnswersFailed: 'Count',
  /** A question held a watched word. */
  WatchedWord: 'Count',

  /** One operation of the hot store that was answered, whatever it stands on. */
  HotStoreTime: 'Milliseconds',
  /** The hot store opened a turn: session, thread, history. */
  SessionLookupTime: 'Milliseconds',
  /** 1: the turn's session had been used within a day, so a cache would have had it. 0: it had not. */
  KnownSession: 'Count',
  /** One append to a reply log, acknowledged. */
  LogAppendTime: 'Milliseconds',
  /** An append failed, and the answer went on without its log. */
  ReplyLogUnreachable: 'Count',

  /** The queue refused, the spool took it. */
  TurnSpooled: 'Count',
  /** Neither took it: a client was told `not_saved`. */
  TurnNotSaved: 'Count',
  /** A writer was gone, and its turn was ended for it. */
  TurnRescued: 'Count',
  /** A record was refused for itself. */
  RecordDeadLettered: 'Count',
  /** How long a message had been there when its save was acknowledged, or has been when a save has failed. */
  SaveLag: 'Milliseconds',
  RecordsSaved: 'Count',
  /** Users of all tenants in the last 5 minutes, and in the last 30 days. */
  ActiveUsers: 'Count',
  MonthlyUsers: 'Count',

  /** A request went on although the limiter could not be reached. */
  LimitsUnchecked: 'Count',
  /** A turn was opened, or ended, without the token budgets, because what was used could not be asked for. */
  BudgetsUnchecked: 'Count',
  /** Phase 2 went on in Postgres, or with the queue alone, because Valkey could not be reached. */
  CacheUnreachable: 'Count',
  /** An idempotency key could not be looked up beyond the day that Valkey remembers, and was taken for new. */
  IdempotencyUnchecked: 'Count',

  /** Messages that have left Postgres for the archive in one run, and what it wrote to the bucket for them. */
  RowsArchived: 'Count',
  BytesArchived: 'Bytes',
  /** Messages did not leave: something went wrong with a tenant, a run had to stop, or a row is not what the archive can hold. */
  ArchiveFailed: 'Count',
  /** A row is not what the archive can hold, and stays in Postgres. */
  RowUnfitForArchive: 'Count',
  /** The oldest message of all tenants that is in Postgres, after a run. */
  OldestMessageAge: 'Seconds',
  /** How long ago the message should have left that has waited for it longest, after a run; 0: none waits. */
  OldestMessageOverdue: 'Seconds',
  /** Until the run would have had to stop; 0: it had to, with something left to do. */
  ArchiveTimeLeft: 'Seconds',
  /** Something of a conversation was needed that the archive does not hold as it was written. */
  ArchiveUnreadable: 'Count',

  /** One call that was answered, also where Postgres refused the statement. */
  DataApiTime: 'Milliseconds',
  /** One call that was not. */
  DataApiErrors: 'Count',
} as const satisfies Record<string, 'Bytes' | 'Count' | 'Milliseconds' | 'Seconds'>
export type Metric = keyof typeof metricUnits

/** Adds a value. Cheap: values are kept and leave together when an invocation ends. */
export type Measure = (metric: Metric, value: number) => void
/** Adds one, which leaves at once: for what is rare, and must be known also where the process dies next. */
export type Count = (metric: Metric) => void

// ---------------------------------------------------------------- what stands in the queue and in the database

/**
 * What saving a message has yet to do, where its turn was opened in Valkey. Postgres does it when the turn is opened
 * there. Done once, with the message's first save.
 */
const onSaveSchema = v.object({
  /** Counts it in its session. */
  count: v.literal(true),
  /** Of the session, if it has none yet. */
  title: v.optional(v.string()),
  channel: v.optional(v.string()),
  /** The key that names the turn, and the answer's id. */
  claim: v.optional(
    v.object({ caller: v.string(), key: v.string(), body_hash: v.string(), message_id: uuid }),
  ),
  /** Who has asked in another user's session. */
  audit: v.optional(v.object({ user_id: v.string(), role: v.picklist(roles), action: v.string() })),
})
export type OnSave = v.InferOutput<typeof onSaveSchema>

/**
 * A finished message on its way to Postgres, and as the hot store keeps it until then. Names are the
 * table's columns, so that SQL unnests it as it is. Everything needed to save it is in it: records arrive in
 * any order, more than once, and in any batch.
 */
export const messageRecordSchema = v.object({
  company_id: v.string(),
  platform: v.string(),
  id: uuid,
  session_id: uuid,
  thread_id: v.string(),
  role: v.picklist(['user', 'assistant', 'system']),
  content: v.string(),
  /** Set when the text is too large for a row: the object that holds it. `content` is empty then. */
  content_key: v.nullable(v.string()),
  status: v.picklist(['complete', 'stopped', 'interrupted']),
  token_count: v.nullable(v.number()),
  response_time_ms: v.nullable(v.number()),
  model: v.nullable(v.string()),
  sources: v.array(v.custom<Source>((value) => typeof value === 'object' && value !== null)),
  metadata: jsonObject,
  parent_message_id: v.nullable(uuid),
  sequence_number: v.pipe(v.number(), v.integer(), v.minValue(1)),
  created_at: v.pipe(v.string(), v.isoTimestamp()),
  /** The owner of the session: a save that comes before the session's own row creates it. */
  user_id: v.string(),
  on_save: v.optional(onSaveSchema),
})
export type MessageRecord = v.InferOutput<typeof messageRecordSchema>

/** A turn that runs, to be looked at again in case its writer dies. */
const watchSchema = v.object({ companyId: v.string(), platform: v.string(), messageId: uuid })

/** What one message of the turns queue holds: records to save, or a turn to watch. */
export const queueBodySchema = v.union([
  v.object({ records: v.pipe(v.array(messageRecordSchema), v.minLength(1)) }),
  v.object({ watch: watchSchema }),
])
export type QueueBody = v.InferOutput<typeof queueBodySchema>

/** A message on its way to the turns queue, and as the spool keeps it while the queue refuses. */
export const queueMessageSchema = v.object({
  tenant: v.object({ companyId: v.string(), platform: v.string() }),
  body: queueBodySchema,
  /** 0 to 900. */
  delaySeconds: v.optional(v.number()),
})
export type QueueMessage = v.InferOutput<typeof queueMessageSchema>

// ---------------------------------------------------------------- what the page is told

/** `/settings.json`, which the page asks for first. A deployment writes it; locally it is empty. */
export interface PageSettings {
  /** Absent: the local front door gives tokens, or a person pastes one. */
  signIn?: OidcSignIn
}

/** Where people sign in: an OIDC issuer at which the page is a public client. */
export interface OidcSignIn {
  kind: 'oidc'
  /** As in AUTH_ISSUER. */
  issuer: string
  clientId: string
  /** Separated by spaces; `openid` is one of them. */
  scope: string
  /** Which of its tokens the API is sent: the one that AUTH_AUDIENCE and the CLAIM_ variables speak of. */
  token: 'id' | 'access'
  /** Origins other than the issuer's that have endpoints of it. Cognito's are on the domain of its user pool. */
  origins?: string[]
}
