/**
 * A meter before the Valkey of phase 2: which commands a turn sends, with what bytes, what time the server takes for each,
 * and what stays in its memory for how long.
 */
import type { CacheUse } from '../../lib/cost/consumption.ts'
import { type Command, namesOfScripts, startCacheProxy } from '../../test/harness/cache-proxy.ts'
import type { Redis } from '../../test/harness/redis.ts'
import { ACME } from '../../test/harness/turnkeep.ts'
import { round } from './sums.ts'

/** The server's microseconds for each operation. */
export type Times = Map<string, number>

export interface CacheMeter {
  port: number
  /** Forgets what was seen so far, and what is stored. */
  reset(): Promise<void>
  /** Of what came since then, by the meter or past it. */
  times(): Promise<Times>
  /** Of what came since then by the meter. */
  take(): Promise<Taken>
  close(): void
}

export interface Taken {
  seen: Seen[]
  gigabyteHours: number
}

interface Seen {
  operation: string
  ofTenant: boolean
  calls: number
  bytes: number
  units: number
}

const KIB = 1_024
/** By which the price of any other command is told. */
const SIMPLE = ['SET', 'GET']
/** Of which keys the product asks for them. The log has those of scripts as well, which are no commands that somebody sent. */
const SIMPLE_KEY = /:(place|settings)$/
const MOST_LOGGED = '1000000'
const MS_AN_HOUR = 3_600_000
/** As lambdas/services/valkey-hot-store/names.ts has it: what is a session's or a message's has more between the braces. */
const TENANT_TAG = `{${ACME.companyId}:${ACME.platform}}`

export async function startCacheMeter(redis: Redis): Promise<CacheMeter> {
  const [{ port, admin }] = redis.nodes
  let seen = new Map<string, Seen>()
  await admin('CONFIG', 'SET', 'slowlog-log-slower-than', '0')
  await admin('CONFIG', 'SET', 'slowlog-max-len', MOST_LOGGED)
  const names = await namesOfScripts()
  const proxy = await startCacheProxy(port, async (moment, command) => {
    const { operation, words } = command
    if (moment === 'answered') {
      const bytes = words.reduce((sum, word) => sum + word.length, 0) + command.replyBytes
      const ofTenant = isOfTenant(command)
      const key = `${operation} ${ofTenant}`
      const one = seen.get(key) ?? { operation, ofTenant, calls: 0, bytes: 0, units: 0 }
      const units = Math.max(1, bytes / KIB)
      seen.set(key, { ...one, calls: one.calls + 1, bytes: one.bytes + bytes, units: one.units + units })
    }
    return 'pass'
  })

  async function times(): Promise<Times> {
    const log = (await admin('SLOWLOG', 'GET', '-1')) as [number, number, number, string[]][]
    const logged = log.flatMap(([, , microseconds, [command = '', first = '']]) => {
      const isScript = /^EVAL/i.test(command)
      const name = isScript ? (names.get(first) ?? command) : command.toUpperCase()
      return SIMPLE.includes(name) && !SIMPLE_KEY.test(first) ? [] : [{ name, microseconds }]
    })
    return new Map(
      [...Map.groupBy(logged, ({ name }) => name)].map(([name, group]) => [
        name,
        middle(group.map(({ microseconds }) => microseconds)),
      ]),
    )
  }

  /** What stands there now, for as long as it stays if nobody comes back. */
  async function gigabyteHours(): Promise<number> {
    let byteHours = 0
    for (const key of await redis.keys('tk:*')) {
      const [bytes, ms] = await Promise.all([admin('MEMORY', 'USAGE', key), admin('PTTL', key)])
      byteHours += (Number(bytes) * Math.max(0, Number(ms))) / MS_AN_HOUR
    }
    return byteHours / 1e9
  }

  return {
    port: proxy.port,
    reset: async () => {
      seen = new Map()
      await redis.empty()
      await admin('SLOWLOG', 'RESET')
    },
    times,
    take: async () => ({ seen: [...seen.values()], gigabyteHours: await gigabyteHours() }),
    close: proxy.close,
  }
}

/** By its first key: a script may touch one slot only. */
const isOfTenant = ({ words: [name, ...rest] }: Command): boolean => {
  const key = /^EVAL/.test(String(name)) ? rest[2] : rest[0]
  return String(key ?? '').includes(TENANT_TAG)
}

/** The mean of the middle half: others use the machine, and a median of whole microseconds is too coarse for a SET. */
function middle(microseconds: readonly number[]): number {
  const sorted = microseconds.toSorted((one, other) => one - other)
  const quarter = Math.floor(sorted.length / 4)
  const half = sorted.slice(quarter, sorted.length - quarter)
  return half.reduce((sum, one) => sum + one, 0) / half.length
}

/** One turn's share of what was taken, with the times that the server has for each. */
export function useOf({ seen, gigabyteHours }: Taken, times: Times, turns: number): CacheUse {
  const simple = SIMPLE.flatMap((name) => times.get(name) ?? [])
  const simpleMicroseconds = simple.reduce((sum, one) => sum + one, 0) / simple.length
  const commands = seen.toSorted((one, other) => (one.operation < other.operation ? -1 : 1))
  return {
    simpleMicroseconds: round(simpleMicroseconds),
    commands: commands.map(({ operation, ofTenant, calls, bytes, units }) => {
      const microseconds = times.get(operation) ?? simpleMicroseconds
      const byTime = (calls * microseconds) / simpleMicroseconds
      return {
        operation,
        ofTenant,
        calls: round(calls / turns),
        bytes: round(bytes / turns),
        microseconds: round(microseconds),
        ecpus: round(Math.max(units, byTime) / turns),
      }
    }),
    gigabyteHours: gigabyteHours / turns,
  }
}
