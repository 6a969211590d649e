/**
 * Processor time of turns that overlap, as they do wherever it matters. A turn alone takes two to six times as much: it finds
 * the processor's caches cold and its clock low, and every message and statement comes by itself. No meter stands on these
 * connections, since with so many turns at once it would be what they wait for.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Overlapping, ProcessorTime } from '../../lib/cost/consumption.ts'
import { clientOf } from '../../test/harness/client.ts'
import type { Redis } from '../../test/harness/redis.ts'
import { ACME, startTurnkeep, type Turnkeep } from '../../test/harness/turnkeep.ts'
import { median } from '../figures.ts'
import { loadNow } from '../machine.ts'
import { msBelow, msOf } from '../processor.ts'
import type { CacheMeter, Times } from './cache.ts'
import { ANSWER_MS, AS_DEPLOYED, converse, quiet, TURN, WITH_BUDGET } from './conversation.ts'
import { round } from './sums.ts'

/** As many as two cores carry beside the model and the cloud, so that tokens still come at their pace. */
const CONVERSATIONS = 40
/** Others use the machine, too: the median is taken. */
const ROUNDS = 3

/** Since it started: of Postgres, and of the process that hosts all functions. */
export const processorTime = (product: Turnkeep): ProcessorTime => ({
  postgresMs: msBelow(process.pid, 'postgres'),
  functionsMs: msOf(product.functions().pid ?? 0),
})

export function timeATurn(before: ProcessorTime, after: ProcessorTime, turns: number): ProcessorTime {
  const between = (key: keyof ProcessorTime): number | null => {
    const [one, other] = [before[key], after[key]]
    return one === null || other === null ? null : round((other - one) / turns)
  }
  return { postgresMs: between('postgresMs'), functionsMs: between('functionsMs') }
}

/** The middle one of the rounds; null where one of them saw nothing. */
export function medianOf({ rounds }: Overlapping, key: keyof ProcessorTime): number | null {
  const seen = rounds.flatMap((one) => one[key] ?? [])
  return seen.length < rounds.length ? null : median(seen)
}

export interface Overlapped {
  overlapping: Overlapping
  /** What the server of phase 2 took for each operation; empty without one. */
  times: Times
}

export async function overlap(cache?: { redis: Redis; meter: CacheMeter }): Promise<Overlapped> {
  const loadBefore = loadNow()
  const product = await startTurnkeep({
    name: 'bench_turns',
    ...AS_DEPLOYED,
    ...(cache && { valkey: cache.redis }),
    environment: WITH_BUDGET,
  })
  try {
    await atOnce(product, 1) // the code is compiled and the connections are there from now on
    await quiet(product)
    const rounds: ProcessorTime[] = []
    const times: Times[] = []
    const turns = CONVERSATIONS * TURN.turnsPerConversation
    for (let left = ROUNDS; left > 0; left -= 1) {
      process.stderr.write(`\r${left} rounds of ${turns} turns that overlap left `)
      await cache?.meter.reset()
      const before = processorTime(product)
      await atOnce(product, TURN.turnsPerConversation)
      await quiet(product)
      rounds.push(timeATurn(before, processorTime(product), turns))
      if (cache) times.push(await cache.meter.times())
    }
    process.stderr.write('\r')
    return {
      overlapping: { conversations: CONVERSATIONS, turns, loadBefore, rounds },
      times: medians(times),
    }
  } finally {
    await product.close()
  }
}

/** Conversations of users of their own, which begin one after the other within the time of one answer. */
async function atOnce({ address }: Turnkeep, questions: number): Promise<void> {
  await Promise.all(
    Array.from({ length: CONVERSATIONS }, async (_, index) => {
      await sleep((index * ANSWER_MS) / CONVERSATIONS)
      await converse(clientOf(address, { ...ACME, userId: `bench-${index}`, role: 'user' }), questions)
    }),
  )
}

function medians(rounds: readonly Times[]): Times {
  const names = new Set(rounds.flatMap((one) => [...one.keys()]))
  return new Map([...names].map((name) => [name, median(rounds.flatMap((one) => one.get(name) ?? []))]))
}
