import { randomUUID } from 'node:crypto'
import { parseArgs } from 'node:util'
import { Failure, UsageError } from '../failures.ts'
import { printable } from '../text.ts'
import { type Check, type Context, checks, cleaningUp, Skipped } from './checks.ts'
import { openClient, Unexpected, Unreachable } from './client.ts'

export const HELP = `npm run smoke -- --url <address> --token <jwt> [--other-token <jwt>]

Does what clients do, on a running environment, and prints whether each thing is as promised.

  --url <address>        the distribution's, as https://d111.cloudfront.net
  --token <jwt>          of any user (or SMOKE_TOKEN, which keeps it out of the shell's history)
  --other-token <jwt>    of a user of another tenant, to see that it is kept out (or SMOKE_OTHER_TOKEN)
  --dev                  asks the environment itself for both tokens: only what runs on one machine gives them
  --seconds <n>          how long one check may take (90)

It asks the model about seven times, and removes its conversations at the end.

Ends with 0, with 1 when something is not as promised, with 2 when called wrongly.`

const OPTIONS = {
  url: { type: 'string' },
  token: { type: 'string' },
  'other-token': { type: 'string' },
  dev: { type: 'boolean' },
  seconds: { type: 'string' },
} as const

const DEFAULT_SECONDS = 90
/** More than it takes, also right after an interruption. */
const CLEANING_MS = 60_000

type Result = 'ok' | 'skipped' | 'FAILED'
type Outcome = { result: Result; remark: string }

/** Returns the exit code. */
export async function smoke(
  args: string[],
  environment: Record<string, string | undefined>,
  interrupted: AbortSignal,
): Promise<number> {
  if (args.some((argument) => argument === '--help' || argument === '-h')) {
    console.log(HELP)
    return 0
  }
  const { url, limitMs, tokens } = parse(args, environment)
  let signal = interrupted
  const { token, otherToken } = await tokens(() => signal)
  const open = (bearer: string) => openClient(url.origin, bearer, () => signal)
  const context: Context = {
    url,
    client: open(token),
    other: otherToken === undefined ? undefined : open(otherToken),
    made: new Set(),
    talk: undefined,
  }
  const outcomes: Outcome[] = []
  const one = async (check: Check, until: AbortSignal, ms: number) => {
    signal = AbortSignal.any([until, AbortSignal.timeout(ms)])
    const startedAt = performance.now()
    const outcome = await outcomeOf(check, context)
    if (until.aborted) return
    outcomes.push(outcome)
    console.log(line(check.title, outcome.result, Math.round(performance.now() - startedAt), outcome.remark))
  }

  console.log(`${url.href}\n\n${line('check', 'result', 'ms', '')}`)
  try {
    for (const check of checks) if (!interrupted.aborted) await one(check, interrupted, limitMs)
  } finally {
    if (context.made.size > 0) await one(cleaningUp, new AbortController().signal, CLEANING_MS)
  }
  const count = (wanted: Result) => outcomes.filter(({ result }) => result === wanted).length
  console.log(`\n${count('ok')} ok, ${count('FAILED')} failed, ${count('skipped')} skipped`)
  return count('FAILED') > 0 ? 1 : 0
}

/** An address at which nothing answers ends the run when that is the first thing that is found out. */
async function outcomeOf(check: Check, context: Context): Promise<Outcome> {
  try {
    return { result: 'ok', remark: (await check.run(context)) ?? '' }
  } catch (error) {
    if (!(error instanceof Error)) throw error
    if (error instanceof Skipped) return { result: 'skipped', remark: error.message }
    if (error instanceof Unreachable && check === checks[0]) throw error
    const own = error instanceof Unexpected || error instanceof Unreachable
    return { result: 'FAILED', remark: own ? error.message : `${error.name}: ${error.message}` }
  }
}

const TITLE_WIDTH = Math.max(...[...checks, cleaningUp].map(({ title }) => title.length))
const RESULT_WIDTH = 'skipped'.length
const MS_WIDTH = 6

/** Each as it comes, so that one sees what takes long. */
const line = (title: string, result: string, ms: number | string, remark: string): string =>
  `${title.padEnd(TITLE_WIDTH)}  ${result.padEnd(RESULT_WIDTH)}  ${String(ms).padStart(MS_WIDTH)}  ${printable(remark)}`.trimEnd()

type Tokens = { token: string; otherToken: string | undefined }

function parse(args: string[], environment: Record<string, string | undefined>) {
  const values = valuesOf(args)
  const token = values.token ?? environment.SMOKE_TOKEN
  const otherToken = values['other-token'] ?? environment.SMOKE_OTHER_TOKEN
  if (values.url === undefined) throw new UsageError('--url is missing.')
  const url = URL.parse(values.url)
  if (url === null || !/^https?:$/.test(url.protocol))
    throw new UsageError(`${values.url} is no address of http or https.`)
  if (values.dev === true && values.token !== undefined) throw new UsageError('Either --dev or --token.')
  if (values.dev !== true && token === undefined) throw new UsageError('--token is missing.')
  const seconds = Number(values.seconds ?? DEFAULT_SECONDS)
  if (!(seconds > 0)) throw new UsageError('--seconds must be a number above 0.')
  const tokens = async (signal: () => AbortSignal): Promise<Tokens> =>
    values.dev === true ? devTokens(url, signal) : { token: token ?? '', otherToken }
  return { url, limitMs: seconds * 1_000, tokens }
}

function valuesOf(args: string[]) {
  try {
    return parseArgs({ args, options: OPTIONS }).values
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

/** Two tenants that nobody else has. */
async function devTokens(url: URL, signal: () => AbortSignal): Promise<Tokens> {
  const client = openClient(url.origin, '', signal)
  const fetchOne = async (companyId: string): Promise<string> => {
    const body = { companyId, platform: 'web', userId: 'smoke', role: 'user' }
    const answer = await client.call<{ token?: string }>('POST', '/dev/token', { body, anonymous: true })
    if (answer.status !== 200 || !answer.body?.token)
      throw new Failure(
        `${url.origin} gives no tokens (${answer.status}): a deployed environment wants --token.`,
      )
    return answer.body.token
  }
  const name = `smoke ${randomUUID().slice(0, 8)}`
  return { token: await fetchOne(name), otherToken: await fetchOne(`${name}, other`) }
}
