/**
 * `npm run bench:turn`: what an ordinary turn uses. Runs the whole product on this machine, twice. First without meters
 * and with many conversations at once, for what depends on that: processor time, and the time of the cache's server. Then with
 * a meter on every connection, one turn after another: so calls and bytes are exact, and each message of the queue comes
 * alone, which is the dearest way. Writes bench/results/turn-<date>.json, or cached-turn-<date>.json for phase 2 (`--phase 2`);
 * `npm run cost` and `npm run scale` read them.
 */
import { relative } from 'node:path'
import { parseArgs } from 'node:util'
import type { Consumption } from '../../lib/cost/consumption.ts'
import { MEASUREMENTS } from '../../lib/cost/measured.ts'
import { clientOf } from '../../test/harness/client.ts'
import { startRedis } from '../../test/harness/redis.ts'
import { ACME, startTurnkeep, type Turnkeep } from '../../test/harness/turnkeep.ts'
import { circumstances, keepResult } from '../machine.ts'
import { startCacheMeter, useOf } from './cache.ts'
import { AS_DEPLOYED, converse, quiet, TURN, WITH_BUDGET } from './conversation.ts'
import { type Edge, openEdge } from './edge.ts'
import { read } from './logs.ts'
import { medianOf, type Overlapped, overlap, processorTime, timeATurn } from './overlapping.ts'
import { printTurn } from './report.ts'
import { callsOf, functionsOf, round, trafficOf } from './sums.ts'

const IDLE_RUNS = 5
/** Tables whose rows stay. */
const LASTING = ['tenants', 'chat_sessions', 'chat_messages']

const { values } = parseArgs({
  options: { turns: { type: 'string', default: '20' }, phase: { type: 'string', default: '1' } },
})
const turns = Number(values.turns)
if (!Number.isInteger(turns) || turns < 1) throw new Error('--turns must be a whole number above 0.')
const phase = values.phase === '2' ? 2 : 1
if (values.phase !== String(phase)) throw new Error('--phase must be 1 or 2.')

const measured = { ...circumstances(), turns }
const redis = phase === 2 ? await startRedis('single') : undefined
const meter = redis && (await startCacheMeter(redis))
const overlapped = await overlap(redis && meter && { redis, meter })
let edge: Edge | undefined
const turnkeep = await startTurnkeep({
  name: 'bench_turn',
  ...AS_DEPLOYED,
  ...(redis && { valkey: redis }),
  environment: async (cloud) => {
    edge = await openEdge(cloud)
    const address = meter && { VALKEY_URL: `redis://127.0.0.1:${meter.port}` }
    return { ...edge.environment, ...WITH_BUDGET, ...address }
  },
})
try {
  if (edge === undefined) throw new Error('there is no meter')
  const consumption = await measure(turnkeep, edge, overlapped)
  printTurn(consumption)
  console.log(`\nWritten to ${relative(process.cwd(), keepResult(MEASUREMENTS[phase], consumption))}`)
} finally {
  await turnkeep.close()
  await edge?.close()
  meter?.close()
  await redis?.close()
}

async function measure(
  product: Turnkeep,
  { address, take }: Edge,
  { overlapping, times }: Overlapped,
): Promise<Consumption> {
  const user = clientOf(address, { ...ACME, userId: 'bench', role: 'user' })
  await converse(user, 1) // connections, keys and secrets are there from now on
  await quiet(product)
  const before = await look(product)
  take()
  await meter?.reset()

  for (let left = turns; left > 0; left -= TURN.turnsPerConversation) {
    await converse(user, Math.min(left, TURN.turnsPerConversation))
    process.stderr.write(`\r${Math.max(0, left - TURN.turnsPerConversation)} turns left `)
  }
  process.stderr.write('\r')
  await quiet(product)
  const seen = take()
  const after = await look(product)
  const taken = await meter?.take()

  await product.cloud.runtimeApi.invoke('archive', '{}') // it leaves word that nothing is due for days
  take()
  for (let run = 0; run < IDLE_RUNS; run += 1)
    for (const name of ['maintain', 'archive']) await product.cloud.runtimeApi.invoke(name, '{}')
  const idleSeen = take()
  const idleWritten = read(product.output().slice(after.output))
  const written = read(product.output().slice(before.output, after.output))
  const each = (total: number) => round(total / turns)
  return {
    measured,
    turn: TURN,
    functions: functionsOf(seen, written.bytes, turns),
    calls: callsOf(seen, turns),
    queueMessages: each(seen.invocations.reduce((sum, { messages }) => sum + messages, 0)),
    viewer: trafficOf(seen.viewer, turns),
    model: trafficOf(seen.model, turns),
    database: {
      storedBytes: each(after.storedBytes - before.storedBytes),
      passingBytes: each(after.passingBytes - before.passingBytes),
      walBytes: each(after.walBytes - before.walBytes),
      cpuMs: medianOf(overlapping, 'postgresMs'),
    },
    ...(taken && { cache: useOf(taken, times, turns) }),
    functionsCpuMs: medianOf(overlapping, 'functionsMs'),
    overlapping,
    alone: timeATurn(before.processor, after.processor, turns),
    metrics: written.metrics,
    idle: {
      functions: functionsOf(idleSeen, idleWritten.bytes, IDLE_RUNS),
      calls: callsOf(idleSeen, IDLE_RUNS),
      metrics: idleWritten.metrics,
    },
  }
}

async function look(product: Turnkeep) {
  const [row] = await product.rows<{ stored: string; passing: string; wal: string }>(`
    select
      sum(pg_total_relation_size(c.oid)) filter (where c.relname = any ('{${LASTING}}')) as stored,
      sum(pg_total_relation_size(c.oid)) filter (where c.relname <> all ('{${LASTING}}')) as passing,
      pg_current_wal_lsn() - '0/0'::pg_lsn as wal
    from pg_class c
    where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'`)
  return {
    storedBytes: Number(row?.stored),
    passingBytes: Number(row?.passing),
    walBytes: Number(row?.wal),
    processor: processorTime(product),
    output: product.output().length,
  }
}
