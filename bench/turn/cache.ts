/**
 * A meter before the Valkey of phase 2: which commands a turn sends, with what bytes, what time the server takes for each,
 * and what stays in its memory for how long.
 */
import type { CacheUse } from '../../lib/cost/consumption.ts'
import { startCacheProxy } from '../../test/harness/cache-proxy.ts'
import type { Redis } from '../../test/harness/redis.ts'
import { median } from '../figures.ts'
import { round } from './sums.ts'

export interface CacheMeter {
  port: number
  /** Forgets what was seen so far, and what is stored. */
  reset(): Promise<void>
  /** Of so many turns since then. */
  take(turns: number): Promise<CacheUse>
  close(): void
}

interface Seen {
  calls: number
  bytes: number
  units: number
}

const KIB = 1_024
/** By which the price of any other command is told: it moves little and does little. */
const SIMPLE = ['SET', 'GET', 'EXISTS']
const MOST_LOGGED = '1000000'
const MS_AN_HOUR = 3_600_000

export async function startCacheMeter(redis: Redis): Promise<CacheMeter> {
  const [{ port, admin }] = redis.nodes
  let seen = new Map<string, Seen>()
  await admin('CONFIG', 'SET', 'slowlog-log-slower-than', '0')
  await admin('CONFIG', 'SET', 'slowlog-max-len', MOST_LOGGED)
  /** Scripts by what the server's log has of them: their digest. */
  const names = new Map<string, string>()
  const proxy = await startCacheProxy(port, async (moment, command) => {
    const { operation, words } = command
    if (moment === 'before' && /^EVAL/.test(String(words[0]))) names.set(String(words[1]), operation)
    if (moment === 'answered') {
      const bytes = words.reduce((sum, word) => sum + word.length, 0) + command.replyBytes
      const one = seen.get(operation) ?? { calls: 0, bytes: 0, units: 0 }
      const units = Math.max(1, bytes / KIB)
      seen.set(operation, { calls: one.calls + 1, bytes: one.bytes + bytes, units: one.units + units })
    }
    return 'pass'
  })

  /** Median microseconds of each operation, as the server has logged them: others use the machine, too. */
  async function times(): Promise<Map<string, number>> {
    const log = (await admin('SLOWLOG', 'GET', '-1')) as [number, number, number, string[]][]
    const logged = log.map(([, , microseconds, [command = '', digest = '']]) => ({
      name: /^EVAL/i.test(command) ? (names.get(digest) ?? command) : command.toUpperCase(),
      microseconds,
    }))
    return new Map(
      [...Map.groupBy(logged, ({ name }) => name)].map(([name, group]) => [
        name,
        median(group.map(({ microseconds }) => microseconds)),
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
    take: async (turns) => {
      const took = await times()
      const simple = SIMPLE.flatMap((name) => took.get(name) ?? [])
      const simpleMicroseconds = simple.reduce((sum, one) => sum + one, 0) / simple.length
      const commands = [...seen].sort(([one], [other]) => (one < other ? -1 : 1))
      return {
        simpleMicroseconds: round(simpleMicroseconds),
        commands: commands.map(([operation, { calls, bytes, units }]) => {
          const microseconds = took.get(operation) ?? simpleMicroseconds
          const byTime = (calls * microseconds) / simpleMicroseconds
          return {
            operation,
            calls: round(calls / turns),
            bytes: round(bytes / turns),
            microseconds: round(microseconds),
            ecpus: round(Math.max(units, byTime) / turns),
          }
        }),
        gigabyteHours: (await gigabyteHours()) / turns,
      }
    },
    close: proxy.close,
  }
}
