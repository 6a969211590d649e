/**
 * What differs between environments, in one place. Change a value here and deploy; `settingsFor` refuses what is
 * missing, out of range or contradictory, and names the setting.
 */
import * as v from 'valibot'

const text = v.pipe(v.string(), v.nonEmpty('must not be empty'))
const httpsUrl = v.pipe(text, v.regex(/^https:\/\/[^\s/?#]+([/?#]\S*)?$/, 'must be an https:// address'))
const withoutComma = v.pipe(
  text,
  v.check((words) => !words.includes(','), 'must hold no comma'),
)
const origin = v.pipe(text, v.regex(/^https:\/\/[^\s/?#]+$/, 'must be https:// and a host'))
const wholeNumber = (min: number, max: number) =>
  v.pipe(
    v.number(),
    v.check((value) => Number.isInteger(value) && value >= min && value <= max, `must be ${min} to ${max}`),
  )
const amount = v.pipe(
  v.number(),
  v.check((value) => value >= 0, 'must not be negative'),
)
/** Aurora Capacity Units: 2 GiB of memory each, in halves. */
const capacity = v.pipe(
  v.number(),
  v.check((value) => value >= 0 && value <= 256 && value % 0.5 === 0, 'must be 0 to 256, in halves'),
)

const cognito = v.literal('cognito', "must be 'cognito' or an issuer")
const issuer = v.strictObject({
  /** As it stands in the tokens' `iss`. */
  issuer: httpsUrl,
  /** As it stands in the tokens' `aud`, or in `client_id`. */
  audience: text,
  /** Absent: discovered at `<issuer>/.well-known/openid-configuration`. */
  jwksUrl: v.optional(httpsUrl),
  /** Names of the claims; absent: sub, company_id, platform, role. */
  claims: v.optional(
    v.strictObject({
      userId: v.optional(text),
      companyId: v.optional(text),
      platform: v.optional(text),
      role: v.optional(text),
    }),
  ),
  /** How people sign in to the page; absent: the page asks for a token. */
  page: v.optional(
    v.strictObject({
      /** A public client: authorization code with PKCE, and the page's address as its redirect. */
      clientId: text,
      scope: v.optional(text, 'openid'),
      /** Which of the tokens holds the claims. */
      token: v.picklist(['id', 'access']),
      /** Where the issuer's token endpoint stands, if not below the issuer. */
      origins: v.optional(v.array(origin), []),
    }),
  ),
})

/** As lambdas/protocol/tenants.ts has it. */
const MAX_BUDGET_TOKENS = 1_000_000_000_000

/** CloudWatch takes only these. */
const LOG_RETENTION_DAYS = [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 3653]

const schema = v.strictObject({
  /**
   * Where this environment belongs, so that it cannot be deployed elsewhere by mistake. Absent: wherever the CLI's credentials
   * point.
   */
  account: v.optional(v.pipe(v.string(), v.regex(/^\d{12}$/, 'must be 12 digits'))),
  region: v.optional(text),

  /** `cognito`: a user pool is made, people are invited into it. Otherwise any OIDC issuer. */
  signIn: v.lazy<typeof cognito | typeof issuer>((input) => (typeof input === 'object' ? issuer : cognito)),

  model: v.strictObject({
    /** Of an OpenAI-compatible endpoint. Its key is put into a secret after the deployment, not here. */
    baseUrl: httpsUrl,
    name: text,
    /** Others that a tenant's admins may choose instead. The dashboard prices them as if they were the first. */
    allowed: v.optional(v.array(withoutComma)),
    /** USD per million tokens, for the dashboard's costs. */
    price: v.strictObject({
      prompt: amount,
      completion: amount,
      /** When it was looked up. */
      asOf: v.pipe(v.string(), v.isoDate('must be a date, YYYY-MM-DD')),
    }),
  }),

  /** What is left out has the functions' own default. The first four are defaults that a tenant may override. */
  answers: v.strictObject({
    /** Stands in the function's environment, which holds 4 KB together. */
    systemPrompt: v.optional(v.pipe(text, v.maxBytes(2_000, 'must be at most 2,000 bytes'))),
    /** Earlier messages that the model is given, and what they may have together. */
    historyMessages: v.optional(wholeNumber(0, 20)),
    historyTokens: v.optional(wholeNumber(0, 1_000_000)),
    /** 0: the model's own limit. */
    answerTokens: v.optional(wholeNumber(0, 1_000_000)),
    /** Patience with the model: until its first token, and between two. */
    firstTokenMs: v.optional(wholeNumber(100, 600_000)),
    silenceMs: v.optional(wholeNumber(100, 600_000)),
  }),

  /** What is left out has the functions' own default; 0: none. Defaults that a tenant may override but for addresses. */
  limits: v.optional(
    v.strictObject({
      userRequestsPerMinute: v.optional(wholeNumber(0, 1_000_000)),
      tenantRequestsPerMinute: v.optional(wholeNumber(0, 1_000_000)),
      /** Of requests without a valid token. */
      addressRequestsPerMinute: v.optional(wholeNumber(0, 1_000_000)),
    }),
  ),
  /** Tokens of prompts and answers, by the UTC day and month. What is left out has no limit. A tenant may override them. */
  budgets: v.optional(
    v.strictObject({
      userTokensPerDay: v.optional(wholeNumber(0, MAX_BUDGET_TOKENS)),
      userTokensPerMonth: v.optional(wholeNumber(0, MAX_BUDGET_TOKENS)),
      tenantTokensPerDay: v.optional(wholeNumber(0, MAX_BUDGET_TOKENS)),
      tenantTokensPerMonth: v.optional(wholeNumber(0, MAX_BUDGET_TOKENS)),
    }),
  ),

  /** When messages leave Postgres for the archive. What is left out has the functions' own default. A tenant may override it. */
  archive: v.optional(
    v.strictObject({
      afterDays: v.optional(wholeNumber(1, 3_650)),
      /** Beyond the newest so many of a session. */
      aboveMessages: v.optional(wholeNumber(100, 1_000_000)),
    }),
  ),

  /** 1: Postgres alone serves sessions, history and reply logs. 2: Valkey does; the alarms say when. */
  phase: v.picklist([1, 2], 'must be 1 or 2'),
  /**
   * Phase 2 needs one. In phase 1 it is there while the phase is being switched: first deploy the cache with phase 1, then
   * phase 2; back again phase 1 with the cache, and after a day without it.
   */
  cache: v.optional(
    v.strictObject({
      /** Limits, so that a mistake has a price that is known. The least that AWS bills is 100 MB. */
      maxGigabytes: wholeNumber(1, 5_000),
      maxEcpuPerSecond: wholeNumber(1_000, 15_000_000),
      /** Daily snapshots kept; 0: none. */
      snapshotDays: wholeNumber(0, 35),
    }),
  ),

  database: v.strictObject({
    minAcu: capacity,
    maxAcu: capacity,
    /** Idle minutes until it pauses; waking takes about 15 s. Absent: it never pauses. */
    pauseAfterMinutes: v.optional(wholeNumber(5, 1440)),
    /** A writer, and readers in the other zone that take over when it fails. */
    instances: wholeNumber(1, 3),
    /** Any second of these days can be restored. */
    backupDays: wholeNumber(1, 35),
    deletionProtection: v.boolean(),
    /** CloudWatch Database Insights: standard keeps 7 days, advanced 15 months and costs per ACU-hour. */
    insights: v.picklist(['none', 'standard', 'advanced']),
    /** A cluster that was restored beside the stack's own, which the functions are to use: see docs/runbook.md. */
    restored: v.optional(
      v.strictObject({
        clusterArn: v.pipe(
          text,
          v.regex(/^arn:aws[\w-]*:rds:[\w-]+:\d{12}:cluster:.+$/, 'must be a cluster'),
        ),
        /** Of its owner's login, as RDS manages it. */
        ownerSecretArn: v.pipe(
          text,
          v.regex(/^arn:aws[\w-]*:secretsmanager:[\w-]+:\d{12}:secret:.+$/, 'must be a secret'),
        ),
      }),
    ),
  }),

  /** Who hears of alarms; absent: they are seen on the dashboard only. */
  alarmEmail: v.optional(v.pipe(text, v.email('must be an e-mail address'))),
  /** Questions with one of these are counted. None: an empty list. */
  watchedWords: v.array(withoutComma),
  logRetentionDays: v.pipe(
    v.number(),
    v.check((days) => LOG_RETENTION_DAYS.includes(days), `must be one of ${LOG_RETENTION_DAYS.join(', ')}`),
  ),

  /** What happens to what holds data when its stack is deleted. */
  dataRemoval: v.picklist(['retain', 'destroy']),

  /** Absent: the distribution's own name. */
  domain: v.optional(
    v.strictObject({
      name: text,
      /** CloudFront takes certificates of us-east-1 only. */
      certificateArn: v.pipe(
        text,
        v.regex(
          /^arn:aws[\w-]*:acm:us-east-1:\d{12}:certificate\/[\w-]+$/,
          'must be a certificate in us-east-1',
        ),
      ),
    }),
  ),
  /** A web ACL in front of everything; its scope must be CLOUDFRONT. */
  webAclArn: v.optional(
    v.pipe(
      text,
      v.regex(/^arn:aws[\w-]*:wafv2:us-east-1:\d{12}:global\/webacl\/.+$/, 'must be a global web ACL'),
    ),
  ),
})

/** As it is written below. */
export type SettingsInput = v.InferInput<typeof schema>
/** As it was checked. */
export type Settings = v.InferOutput<typeof schema>
export type Issuer = v.InferOutput<typeof issuer>

const model = {
  baseUrl: 'https://api.openai.com/v1',
  name: 'gpt-5-mini',
  price: { prompt: 0.25, completion: 2, asOf: '2026-11-20' },
} satisfies SettingsInput['model']

const watchedWords = ['오류', '고장', '문제']

export const environments = {
  /** The smallest of everything, asleep when nobody is there, gone when it is destroyed. */
  dev: {
    signIn: 'cognito',
    model,
    answers: {},
    phase: 1,
    database: {
      minAcu: 0,
      maxAcu: 2,
      pauseAfterMinutes: 10,
      instances: 1,
      backupDays: 7,
      deletionProtection: false,
      insights: 'none', // it samples the database all the time, for nobody
    },
    watchedWords,
    logRetentionDays: 14,
    dataRemoval: 'destroy',
  },
  /** As prod in everything that can break, smaller in everything that only costs. */
  staging: {
    signIn: 'cognito',
    model,
    answers: {},
    phase: 1,
    database: {
      minAcu: 0.5,
      maxAcu: 4,
      instances: 1,
      backupDays: 14,
      deletionProtection: true,
      insights: 'standard',
    },
    watchedWords,
    logRetentionDays: 30,
    dataRemoval: 'retain',
  },
  prod: {
    signIn: 'cognito',
    model,
    answers: {},
    phase: 1,
    database: {
      minAcu: 2, // less leaves Insights too little memory, and starts every busy hour with a small buffer cache
      maxAcu: 32,
      instances: 2,
      backupDays: 30,
      deletionProtection: true,
      insights: 'advanced',
    },
    watchedWords,
    logRetentionDays: 90,
    dataRemoval: 'retain',
  },
} satisfies Record<string, SettingsInput>

export type EnvironmentName = keyof typeof environments

/** An environment that people work on; only dev may be thrown away. */
const isKept = (name: string): boolean => name !== 'dev'

type Rule = (settings: Settings, name: string) => string | undefined

/** Settings that are right by themselves and wrong together. */
const rules: Rule[] = [
  ({ database }) =>
    database.minAcu > database.maxAcu ? 'database.minAcu must not be above database.maxAcu' : undefined,
  ({ database }) => (database.maxAcu < 1 ? 'database.maxAcu must be at least 1' : undefined),
  ({ database }) =>
    database.minAcu === 0 && database.pauseAfterMinutes === undefined
      ? 'database.pauseAfterMinutes is missing: a database.minAcu of 0 means that it pauses'
      : undefined,
  ({ database }) =>
    database.minAcu > 0 && database.pauseAfterMinutes !== undefined
      ? 'database.pauseAfterMinutes needs a database.minAcu of 0'
      : undefined,
  ({ database }, name) =>
    name === 'prod' && (database.pauseAfterMinutes !== undefined || database.minAcu === 0)
      ? 'database.pauseAfterMinutes and a database.minAcu of 0 have no place in prod: the first to come would wait for it to wake'
      : undefined,
  ({ database }, name) =>
    name === 'prod' && database.instances < 2
      ? 'database.instances must be at least 2 in prod: one in each zone'
      : undefined,
  ({ database }, name) =>
    isKept(name) && database.backupDays < 7 ? `database.backupDays must be at least 7 in ${name}` : undefined,
  ({ database }, name) =>
    isKept(name) && !database.deletionProtection
      ? `database.deletionProtection must be on in ${name}`
      : undefined,
  ({ dataRemoval }, name) =>
    isKept(name) && dataRemoval !== 'retain' ? `dataRemoval must be 'retain' in ${name}` : undefined,
  ({ dataRemoval, database }) =>
    dataRemoval === 'destroy' && database.deletionProtection
      ? "database.deletionProtection contradicts a dataRemoval of 'destroy'"
      : undefined,
  ({ phase, cache }) => (phase === 2 && !cache ? 'cache is missing: phase 2 needs one' : undefined),
]

function explain(issue: v.BaseIssue<unknown>): string {
  const name = v.getDotPath(issue) ?? 'settings'
  if (issue.received === 'undefined') return `${name} is missing`
  if (issue.kind === 'validation' || issue.message.startsWith('must')) return `${name} ${issue.message}`
  if (issue.expected === 'never') return `${name} is not a setting`
  return `${name} must be ${issue.expected?.toLowerCase() ?? 'of another type'}`
}

/** The settings as they are used. Throws one error that lists everything that is wrong with them. */
export function checkSettings(name: string, input: unknown): Settings {
  const result = v.safeParse(schema, input)
  const problems = result.success
    ? rules.flatMap((rule) => rule(result.output, name) ?? [])
    : result.issues.map(explain)
  if (!result.success || problems.length > 0)
    throw new Error(`Settings of ${name} (lib/settings.ts): ${problems.join('; ')}`)
  return result.output
}

/** Refuses a name that is not there, and settings that are not right. */
export function settingsFor(name: string | undefined): Settings {
  const names = Object.keys(environments)
  const list = `${names.slice(0, -1).join(', ')} or ${names.at(-1)}`
  if (name === undefined || name === '') throw new Error(`Which environment? Give -c env=${list}.`)
  if (!Object.hasOwn(environments, name)) throw new Error(`Unknown environment '${name}': use ${list}.`)
  return checkSettings(name, environments[name as EnvironmentName])
}
