/**
 * The hot store in both phases: to open a turn, which is the look-up of its session with the history, to append to the reply
 * log, to end the turn and to read the log. Real Postgres through the Data API, a single Valkey, and a cluster with TLS and
 * logins, one after the other in each round, each time in another order, in one run.
 */
import { table } from '../../lib/cost/table.ts'
import { SHARED_SERVER, startPostgresServer } from '../../test/harness/postgres-server.ts'
import startSharedRedis from '../../test/harness/shared-redis.ts'
import { medianRatio, percentile, rounded, shuffled, verdict } from '../figures.ts'
import { type History, type Operation, operations, sample } from './sample.ts'
import { type StoreName, type Subject, startStores } from './stores.ts'

const HISTORIES: History[] = [
  { messages: 0, given: 0 },
  { messages: 6, given: 5 },
  { messages: 20, given: 20 },
]
/** The aim of docs/phase-two.md: of opening a turn in a session that is in use. */
const MOST_MS: Record<StoreName, number> = { Postgres: 20, Valkey: 2, 'Valkey cluster, TLS': 2 }
/** Compiled, connected and in the caches from then on. */
const WARM_UP_ROUNDS = 20

export interface LookupFigure {
  store: StoreName
  /** Messages that the turn is given. */
  history: number
  operation: Operation
  samples: number
  p50Ms: number
  p99Ms: number
  /** Against phase 1's store in the same round, the median. */
  timesPostgres: number
}

export interface LookupFigures {
  rounds: number
  figures: LookupFigure[]
}

/** Throws where there is no Redis on this machine. */
export async function measureLookup({ rounds }: { rounds: number }): Promise<LookupFigures> {
  const endRedis = await startSharedRedis()
  // Held open for all stores: each makes a database of its own on it.
  const postgres = await startPostgresServer()
  const before = process.env[SHARED_SERVER]
  process.env[SHARED_SERVER] = postgres.url
  try {
    const subjects = await startStores()
    try {
      return { rounds, figures: await measureStores(subjects, rounds) }
    } finally {
      for (const { backEnd } of subjects) await backEnd.close()
    }
  } finally {
    if (before === undefined) delete process.env[SHARED_SERVER]
    await postgres.close()
    await endRedis()
  }
}

async function measureStores(subjects: readonly Subject[], rounds: number): Promise<LookupFigure[]> {
  const cases = subjects.flatMap((subject) =>
    HISTORIES.map((history) => ({
      subject,
      history,
      store: subject.open(history.given || 5),
      times: new Map<Operation, number[]>(operations.map((operation) => [operation, []])),
    })),
  )
  for (let round = -WARM_UP_ROUNDS; round < rounds; round += 1) {
    for (const { subject, history, store, times } of shuffled(cases)) {
      const seen = await sample(subject, store, history)
      if (round >= 0) for (const operation of operations) times.get(operation)?.push(...seen[operation])
    }
    if (process.stderr.isTTY) process.stderr.write(`\r${rounds - round - 1} rounds left  `)
  }
  if (process.stderr.isTTY) process.stderr.write('\r')
  return cases.flatMap(({ subject, history, times }) =>
    [...times].map(([operation, ms]): LookupFigure => {
      const at = (share: number) => rounded(percentile(ms, share))
      const postgres = cases.find((one) => one.subject.name === 'Postgres' && one.history === history)
      return {
        store: subject.name,
        history: history.given,
        operation,
        samples: ms.length,
        p50Ms: at(0.5),
        p99Ms: at(0.99),
        timesPostgres: medianRatio(ms, postgres?.times.get(operation) ?? []),
      }
    }),
  )
}

export function printLookup({ figures }: LookupFigures): void {
  const order = (operation: Operation): number => operations.indexOf(operation)
  const sorted = figures.toSorted(
    (one, other) => order(one.operation) - order(other.operation) || one.history - other.history,
  )
  console.log(
    table(
      sorted.map((figure) => ({
        operation: figure.operation,
        history: String(figure.history),
        store: figure.store,
        samples: String(figure.samples),
        'p50 ms': figure.p50Ms.toFixed(2),
        'p99 ms': figure.p99Ms.toFixed(2),
        'times Postgres': figure.timesPostgres.toFixed(2),
        aim: figure.operation === 'open' ? `${MOST_MS[figure.store]} ms ${verdict(!isMissed(figure))}` : '',
      })),
    ),
  )
}

/** Of opening alone: nothing is aimed at for the others. */
export const isMissed = ({ operation, store, p50Ms }: LookupFigure): boolean =>
  operation === 'open' && p50Ms >= MOST_MS[store]
