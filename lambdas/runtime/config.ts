/**
 * The one place under lambdas/ that reads the environment. A handler asks for the settings it uses, once, while it
 * starts: what is missing or wrong ends the cold start, all of it named together.
 */
import {
  MAX_ARCHIVE_DAYS,
  MAX_ARCHIVE_MESSAGES,
  MAX_BUDGET_TOKENS,
  MAX_HISTORY_MESSAGES,
  MAX_TOKENS,
  MIN_ARCHIVE_MESSAGES,
} from '../protocol/tenants.ts'

type Environment = Record<string, string | undefined>

interface Setting<Value> {
  readonly variable: string
  /** Absent: the variable must be set. */
  readonly fallback?: Value
  parse(text: string): Value
}

const text = (variable: string): Setting<string> => ({ variable, parse: (value) => value })
const optionalText = (variable: string): Setting<string | undefined> => ({
  variable,
  fallback: undefined,
  parse: (value) => value,
})
const textOr = (variable: string, fallback: string): Setting<string> => ({
  variable,
  fallback,
  parse: (value) => value,
})
const wholeNumberOr = <Fallback extends number | undefined>(
  variable: string,
  fallback: Fallback,
  { min, max }: { min: number; max: number },
): Setting<number | Fallback> => ({
  variable,
  fallback,
  parse: (value) => {
    const number = Number(value)
    if (!Number.isInteger(number) || number < min || number > max)
      throw new Error(`must be a whole number from ${min} to ${max}`)
    return number
  },
})

/** Words, or names, between commas. */
const wordsOr = (variable: string, fallback: string): Setting<string[]> => {
  const parse = (value: string): string[] =>
    value
      .split(',')
      .map((word) => word.trim())
      .filter((word) => word !== '')
  return { variable, fallback: parse(fallback), parse }
}

/** The first where nothing is said. */
const oneOf = <Value extends string>(variable: string, values: [Value, ...Value[]]): Setting<Value> => ({
  variable,
  fallback: values[0],
  parse: (text) => {
    const value = values.find((one) => one === text)
    if (value === undefined) throw new Error(`must be one of ${values.join(', ')}`)
    return value
  },
})
const flagOr = (variable: string, fallback: boolean): Setting<boolean> => ({
  variable,
  fallback,
  parse: (text) => {
    if (text !== 'true' && text !== 'false') throw new Error('must be true or false')
    return text === 'true'
  },
})

export const settings = {
  turnsQueueUrl: text('TURNS_QUEUE_URL'),
  turnsDeadQueueUrl: text('TURNS_DEAD_QUEUE_URL'),
  /** Exports and erasures. */
  jobsQueueUrl: text('JOBS_QUEUE_URL'),
  /** Large texts, and the spool. */
  contentBucket: text('CONTENT_BUCKET'),
  databaseClusterArn: text('DATABASE_CLUSTER_ARN'),
  /** Login of the role that owns nothing; the only one that functions of the product may use. */
  databaseSecretArn: text('DATABASE_SECRET_ARN'),
  /** Login of the schema's owner; `migrate` alone has it. */
  databaseOwnerSecretArn: text('DATABASE_OWNER_SECRET_ARN'),
  databaseName: text('DATABASE_NAME'),
  /** Where the numbered SQL files lie; absent: beside the source. */
  sqlDirectory: optionalText('SQL_DIRECTORY'),
  /** Signs the links by which a client without headers resumes a reply. */
  resumeSecretArn: text('RESUME_SECRET_ARN'),
  /** What the distribution shows, so that its word for a client's address is believed. */
  originSecretArn: text('ORIGIN_SECRET_ARN'),
  // Requests in any 60 seconds; 0: none.
  rateLimitUser: wholeNumberOr('RATE_LIMIT_USER', 100, { min: 0, max: 1_000_000 }),
  rateLimitTenant: wholeNumberOr('RATE_LIMIT_TENANT', 6_000, { min: 0, max: 1_000_000 }),
  /** Of requests without a valid token. */
  rateLimitAddress: wholeNumberOr('RATE_LIMIT_ADDRESS', 100, { min: 0, max: 1_000_000 }),
  // Tokens of a user, and of all users of a tenant together; absent: as many as there are, 0: none.
  tokensUserDay: wholeNumberOr('TOKENS_USER_DAY', undefined, { min: 0, max: MAX_BUDGET_TOKENS }),
  tokensUserMonth: wholeNumberOr('TOKENS_USER_MONTH', undefined, { min: 0, max: MAX_BUDGET_TOKENS }),
  tokensTenantDay: wholeNumberOr('TOKENS_TENANT_DAY', undefined, { min: 0, max: MAX_BUDGET_TOKENS }),
  tokensTenantMonth: wholeNumberOr('TOKENS_TENANT_MONTH', undefined, { min: 0, max: MAX_BUDGET_TOKENS }),
  // When messages leave for the archive: so old, or beyond the newest so many of a session.
  archiveAfterDays: wholeNumberOr('ARCHIVE_AFTER_DAYS', 30, { min: 1, max: MAX_ARCHIVE_DAYS }),
  archiveAboveMessages: wholeNumberOr('ARCHIVE_ABOVE_MESSAGES', 10_000, {
    min: MIN_ARCHIVE_MESSAGES,
    max: MAX_ARCHIVE_MESSAGES,
  }),
  /** What users are hashed under in the archive; never changed, or one user would read as two. */
  pseudonymSecretArn: text('PSEUDONYM_SECRET_ARN'),
  authIssuer: text('AUTH_ISSUER'),
  authAudience: text('AUTH_AUDIENCE'),
  /** Absent: discovered at `<issuer>/.well-known/openid-configuration`. */
  authJwksUrl: optionalText('AUTH_JWKS_URL'),
  claimUserId: textOr('CLAIM_USER_ID', 'sub'),
  claimCompanyId: textOr('CLAIM_COMPANY_ID', 'company_id'),
  claimPlatform: textOr('CLAIM_PLATFORM', 'platform'),
  claimRole: textOr('CLAIM_ROLE', 'role'),
  openaiBaseUrl: optionalText('OPENAI_BASE_URL'),
  /** The key itself, as it is. */
  modelKeySecretArn: text('MODEL_KEY_SECRET_ARN'),
  chatModel: text('CHAT_MODEL'),
  /** What a tenant may choose instead of it. */
  allowedModels: wordsOr('ALLOWED_MODELS', ''),
  systemPrompt: textOr(
    'SYSTEM_PROMPT',
    'You are a helpful assistant. Answer in the language of the question, using the conversation so far.',
  ),
  /** Earlier messages that the model is given. */
  historyMessages: wholeNumberOr('HISTORY_MESSAGES', 5, { min: 0, max: MAX_HISTORY_MESSAGES }),
  historyTokens: wholeNumberOr('HISTORY_TOKENS', 8_000, { min: 0, max: MAX_TOKENS }),
  /** Absent or 0: the model's own limit. */
  answerTokens: wholeNumberOr('ANSWER_TOKENS', 0, { min: 0, max: MAX_TOKENS }),
  /** Until the first token, all attempts together. */
  modelFirstTokenMs: wholeNumberOr('MODEL_FIRST_TOKEN_MS', 30_000, { min: 100, max: 600_000 }),
  /** Between two tokens. */
  modelSilenceMs: wholeNumberOr('MODEL_SILENCE_MS', 30_000, { min: 100, max: 600_000 }),
  /** The waiting route's patience; below the 120 s that the distribution waits for a function. */
  waitMs: wholeNumberOr('WAIT_MS', 100_000, { min: 10, max: 110_000 }),
  /** A writer that is silent for so long counts as dead: well above the 5 s that one slow append may take. */
  leaseSeconds: wholeNumberOr('LEASE_SECONDS', 10, { min: 1, max: 300 }),
  /** Phase 1 or 2. */
  hotStore: oneOf('HOT_STORE', ['postgres', 'valkey']),
  /** redis[s]://[user[:password]@]host[:port] */
  valkeyUrl: optionalText('VALKEY_URL'),
  valkeyCluster: flagOr('VALKEY_CLUSTER', false),
  /** Absent: the password is the one in the address. */
  valkeyCacheName: optionalText('VALKEY_CACHE_NAME'),
  /** What an answer of the cache may take: after that it counts as away. */
  valkeyPatienceMs: wholeNumberOr('VALKEY_PATIENCE_MS', 300, { min: 50, max: 10_000 }),
  metricsNamespace: textOr('METRICS_NAMESPACE', 'Turnkeep'),
  /** Questions with one of these are counted: what users write when something is broken. A lone comma: none. */
  watchedWords: wordsOr('WATCHED_WORDS', '오류,고장,문제'),
} as const

type SettingName = keyof typeof settings

/** Settings that belong to one thing, for the handlers that have it. */
export const authSettings = [
  'authAudience',
  'authIssuer',
  'authJwksUrl',
  'claimCompanyId',
  'claimPlatform',
  'claimRole',
  'claimUserId',
] as const satisfies SettingName[]
export const databaseSettings = [
  'databaseClusterArn',
  'databaseName',
  'databaseSecretArn',
] as const satisfies SettingName[]
export const limitSettings = [
  'originSecretArn',
  'rateLimitAddress',
  'rateLimitTenant',
  'rateLimitUser',
] as const satisfies SettingName[]
export const hotStoreSettings = [
  'historyMessages',
  'hotStore',
  'leaseSeconds',
  'valkeyCacheName',
  'valkeyCluster',
  'valkeyPatienceMs',
  'valkeyUrl',
] as const satisfies SettingName[]
/** What a tenant may set for itself, beside its limits: these are the defaults, and what it may choose from. */
export const tenantDefaultSettings = [
  'allowedModels',
  'answerTokens',
  'archiveAboveMessages',
  'archiveAfterDays',
  'chatModel',
  'historyMessages',
  'historyTokens',
  'systemPrompt',
  'tokensTenantDay',
  'tokensTenantMonth',
  'tokensUserDay',
  'tokensUserMonth',
  'watchedWords',
] as const satisfies SettingName[]

type ValueOf<Name extends SettingName> = (typeof settings)[Name] extends Setting<infer Value> ? Value : never
export type Config<Name extends SettingName> = { readonly [Key in Name]: ValueOf<Key> }

/** Reads the named settings. Throws one error that lists every variable that is missing or wrong. */
export function readConfig<Name extends SettingName>(
  names: readonly Name[],
  environment: Environment = process.env,
): Config<Name> {
  const problems: string[] = []
  const entries = names.map((name) => {
    const setting: Setting<unknown> = settings[name]
    const value = environment[setting.variable]
    if (value === undefined || value === '') {
      if (!('fallback' in setting)) problems.push(`${setting.variable} is missing`)
      return [name, setting.fallback]
    }
    try {
      return [name, setting.parse(value)]
    } catch (error) {
      problems.push(`${setting.variable} ${(error as Error).message}`)
      return [name, undefined]
    }
  })
  if (problems.length > 0) throw new Error(`Configuration: ${problems.join('; ')}`)
  return Object.fromEntries(entries)
}
