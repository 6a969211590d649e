/**
 * `npm run bench:lookup`: how long the hot store takes in both phases: to open a turn, which is the look-up of its session
 * with the history, to append to the reply log, to end the turn and to read the log. Real Postgres through the Data API, a
 * single Valkey, and a cluster with TLS and logins, one after the other in each round, in one run. Writes
 * bench/results/lookup-<date>.json.
 */
import { execFileSync } from 'node:child_process'
import { relative } from 'node:path'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { table } from '../../lib/cost/table.ts'
import { SHARED_SERVER, startPostgresServer } from '../../test/harness/postgres-server.ts'
import startSharedRedis from '../../test/harness/shared-redis.ts'
import { circumstances, keepResult } from '../machine.ts'
import { type History, type Operation, operations, sample } from './sample.ts'
import { type StoreName, type Subject, startStores } from './stores.ts'

const HISTORIES: History[] = [
  { messages: 0, given: 0 },
  { messages: 6, given: 5 },
  { messages: 20, given: 20 },
]
/** N1: of opening a turn in a session that is in use. */
const MOST_MS: Record<StoreName, number> = { Postgres: 20, Valkey: 2, 'Valkey cluster, TLS': 2 }
/** Compiled, connected and in the caches from then on. */
const WARM_UP_ROUNDS = 20

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '200' } } })
const rounds = Number(values.rounds)
if (!Number.isInteger(rounds) || rounds < 1) throw new Error('--rounds must be a whole number above 0.')

interface Figure {
  store: StoreName
  /** Messages that the turn is given. */
  history: number
  operation: Operation
  samples: number
  p50Ms: number
  p99Ms: number
}

const endRedis = await startSharedRedis()
// Held open for all stores: each makes a database of its own on it.
const postgres = await startPostgresServer()
process.env[SHARED_SERVER] = postgres.url
try {
  const subjects = await startStores()
  try {
    await measure(subjects)
  } finally {
    for (const { backEnd } of subjects) await backEnd.close()
  }
} finally {
  await postgres.close()
  await endRedis()
}

async function measure(subjects: readonly Subject[]): Promise<void> {
  const measured = { ...circumstances(), rounds, ...(await versions()) }
  const cases = subjects.flatMap((subject) =>
    HISTORIES.map((history) => ({
      subject,
      history,
      store: subject.open(history.given || 5),
      times: new Map<Operation, number[]>(operations.map((operation) => [operation, []])),
    })),
  )
  for (let round = -WARM_UP_ROUNDS; round < rounds; round += 1) {
    for (const { subject, history, store, times } of cases) {
      const seen = await sample(subject, store, history)
      if (round >= 0) for (const operation of operations) times.get(operation)?.push(...seen[operation])
    }
    process.stderr.write(`\r${rounds - round - 1} rounds left  `)
  }
  process.stderr.write('\r')
  const figures = cases.flatMap(({ subject, history, times }) =>
    [...times].map(([operation, ms]): Figure => {
      const at = (share: number) => percentile(ms, share)
      const { name: store } = subject
      return { store, history: history.given, operation, samples: ms.length, p50Ms: at(0.5), p99Ms: at(0.99) }
    }),
  )
  print(figures)
  console.log(`\nWritten to ${relative(process.cwd(), keepResult('lookup', { measured, figures }))}`)
  const missed = figures.filter(
    ({ operation, store, p50Ms }) => operation === 'open' && p50Ms >= MOST_MS[store],
  )
  for (const { store, history, p50Ms } of missed)
    console.log(`${store}, history of ${history}: ${p50Ms} ms, where ${MOST_MS[store]} ms are allowed`)
  if (missed.length > 0) process.exitCode = 1
}

function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((one, other) => one - other)
  const value = sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
  return Math.round(value * 100) / 100
}

function print(figures: readonly Figure[]): void {
  const rows = figures.map(({ store, operation, history, samples, p50Ms, p99Ms }) => ({
    operation,
    history: String(history),
    store,
    samples: String(samples),
    'p50 ms': p50Ms.toFixed(2),
    'p99 ms': p99Ms.toFixed(2),
  }))
  const order = (operation: string): number => operations.indexOf(operation as Operation)
  rows.sort((one, other) => order(one.operation) - order(other.operation) || +one.history - +other.history)
  console.log(table(rows))
}

/** Of what answers. */
async function versions(): Promise<Record<'postgres' | 'redis', string>> {
  const client = new pg.Client({ connectionString: postgres.url })
  await client.connect()
  const { rows } = await client.query('show server_version')
  await client.end()
  const redis = execFileSync('redis-server', ['--version'], { encoding: 'utf8' })
  return { postgres: rows[0].server_version, redis: /v=(\S+)/.exec(redis)?.[1] ?? 'unknown' }
}
