import * as v from 'valibot'
import { notBlank, storable } from './fields.ts'
import { countCharacters } from './text.ts'

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
