/**
 * `npm run bench:turn`: what an ordinary turn uses. Runs the whole product on this machine, with a meter on every
 * connection, one turn after another: so each message of the queue comes alone, which is the dearest way, and none
 * is kept waiting by another. Writes bench/results/turn-<date>.json, or cached-turn-<date>.json for phase 2 (`--phase 2`);
 * `npm run cost` reads them.
 */
import { relative } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import type { Consumption } from '../../lib/cost/consumption.ts'
import { MEASUREMENTS } from '../../lib/cost/measured.ts'
import { resources } from '../../lib/resources.ts'
import { type ApiClient, clientOf } from '../../test/harness/client.ts'
import { startRedis } from '../../test/harness/redis.ts'
import { ACME, startTurnkeep, type Turnkeep } from '../../test/harness/turnkeep.ts'
import { circumstances, keepResult } from '../machine.ts'
import { msBelow, msOf } from '../processor.ts'
import { startCacheMeter } from './cache.ts'
import { type Edge, openEdge } from './edge.ts'
import { read } from './logs.ts'
import { printTurn } from './report.ts'
import { callsOf, functionsOf, round, trafficOf } from './sums.ts'

const QUESTION_CHARACTERS = 300
const ANSWER_CHARACTERS = 1_500
/** Korean takes about a token for 1.5 to 4 characters; this makes 8 s at the pace of a usual model. */
const ANSWER_TOKENS = 400
const TOKEN_MS = 20
const TURNS_PER_CONVERSATION = 5
const FIRST_SYLLABLE = 0xac00
const SYLLABLES = 11_172
const IDLE_RUNS = 5
/** Tables whose rows stay. */
const LASTING = ['tenants', 'chat_sessions', 'chat_messages']
/** Until the last lines of log have come through their pipe. */
const LAST_WORDS_MS = 500
/** Watches come back once or twice. */
const DRAIN_MS = 120_000

const { values } = parseArgs({
  options: { turns: { type: 'string', default: '20' }, phase: { type: 'string', default: '1' } },
})
const turns = Number(values.turns)
if (!Number.isInteger(turns) || turns < 1) throw new Error('--turns must be a whole number above 0.')
const phase = values.phase === '2' ? 2 : 1
if (values.phase !== String(phase)) throw new Error('--phase must be 1 or 2.')

/** Hangul that does not repeat: Postgres compresses what does. Always the same. */
function text(characters: number): string {
  let state = 1
  const next = (count: number): number => {
    state = (state * 48_271) % 0x7fffffff
    return state % count
  }
  return Array.from({ length: characters }, () =>
    next(4) === 0 ? ' ' : String.fromCharCode(FIRST_SYLLABLE + next(SYLLABLES)),
  ).join('')
}
const pieces = Array.from({ length: ANSWER_TOKENS }, (_, index) => {
  const at = (position: number) => Math.round((position * ANSWER_CHARACTERS) / ANSWER_TOKENS)
  return text(ANSWER_CHARACTERS).slice(at(index), at(index + 1))
})

const measured = { ...circumstances(), turns }
const redis = phase === 2 ? await startRedis('single') : undefined
const meter = redis && (await startCacheMeter(redis))
let edge: Edge | undefined
const turnkeep = await startTurnkeep({
  name: 'bench_turn',
  resources,
  ...(redis && { valkey: redis }),
  scriptedModel: { tokenDelayMs: TOKEN_MS, respond: () => ({ content: pieces }) },
  environment: async (cloud) => {
    edge = await openEdge(cloud)
    return { ...edge.environment, ...(meter && { VALKEY_URL: `redis://127.0.0.1:${meter.port}` }) }
  },
})
try {
  if (edge === undefined) throw new Error('there is no meter')
  const consumption = await measure(turnkeep, edge)
  printTurn(consumption)
  console.log(`\nWritten to ${relative(process.cwd(), keepResult(MEASUREMENTS[phase], consumption))}`)
} finally {
  await turnkeep.close()
  await edge?.close()
  meter?.close()
  await redis?.close()
}

async function measure(product: Turnkeep, { address, take }: Edge): Promise<Consumption> {
  const user = clientOf(address, { ...ACME, userId: 'bench', role: 'user' })
  await converse(user, 1) // connections, keys and secrets are there from now on
  await quiet(product)
  const before = await look(product)
  take()
  await meter?.reset()

  for (let left = turns; left > 0; left -= TURNS_PER_CONVERSATION) {
    await converse(user, Math.min(left, TURNS_PER_CONVERSATION))
    process.stderr.write(`\r${Math.max(0, left - TURNS_PER_CONVERSATION)} turns left `)
  }
  process.stderr.write('\r')
  await quiet(product)
  const seen = take()
  const after = await look(product)
  const cache = await meter?.take(turns)

  await product.cloud.runtimeApi.invoke('archive', '{}') // it leaves word that nothing is due for days
  take()
  for (let run = 0; run < IDLE_RUNS; run += 1)
    for (const name of ['maintain', 'archive']) await product.cloud.runtimeApi.invoke(name, '{}')
  const idleSeen = take()
  const idleWritten = read(product.output().slice(after.output))
  const written = read(product.output().slice(before.output, after.output))
  const each = (total: number) => round(total / turns)
  const between = (one: number | null, other: number | null) =>
    one === null || other === null ? null : each(other - one)
  return {
    measured,
    turn: {
      questionCharacters: QUESTION_CHARACTERS,
      answerCharacters: ANSWER_CHARACTERS,
      answerTokens: ANSWER_TOKENS,
      tokenMs: TOKEN_MS,
      turnsPerConversation: TURNS_PER_CONVERSATION,
    },
    functions: functionsOf(seen, written.bytes, turns),
    calls: callsOf(seen, turns),
    queueMessages: each(seen.invocations.reduce((sum, { messages }) => sum + messages, 0)),
    viewer: trafficOf(seen.viewer, turns),
    model: trafficOf(seen.model, turns),
    database: {
      storedBytes: each(after.storedBytes - before.storedBytes),
      passingBytes: each(after.passingBytes - before.passingBytes),
      walBytes: each(after.walBytes - before.walBytes),
      cpuMs: between(before.postgresMs, after.postgresMs),
    },
    ...(cache && { cache }),
    functionsCpuMs: between(before.functionsMs, after.functionsMs),
    metrics: written.metrics,
    idle: {
      functions: functionsOf(idleSeen, idleWritten.bytes, IDLE_RUNS),
      calls: callsOf(idleSeen, IDLE_RUNS),
      metrics: idleWritten.metrics,
    },
  }
}

async function converse(user: ApiClient, questions: number): Promise<void> {
  await user.call('GET', '/api/sessions')
  let sessionId: string | undefined
  for (let turn = 0; turn < questions; turn += 1) {
    const message = text(QUESTION_CHARACTERS)
    const reply = await user.ask({ message, ...(sessionId ? { sessionId } : {}) })
    if (reply.terminal?.type !== 'done')
      throw new Error(`A turn ended with ${JSON.stringify(reply.terminal ?? reply.error)}`)
    sessionId = reply.session?.sessionId
  }
  await user.messages(sessionId ?? '')
}

/** Waits until everything is saved and nothing is watched any more. */
async function quiet({ cloud }: Turnkeep): Promise<void> {
  const until = Date.now() + DRAIN_MS
  for (;;) {
    const { ready = [], delayed = [], inflight = [] } = cloud.fauxqs.inspectQueue('turns')?.messages ?? {}
    if (ready.length + delayed.length + inflight.length === 0) break
    if (Date.now() > until) throw new Error('The queue does not become empty.')
    await sleep(50)
  }
  await sleep(LAST_WORDS_MS)
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
    postgresMs: msBelow(process.pid, 'postgres'),
    functionsMs: msOf(product.functions().pid ?? 0),
    output: product.output().length,
  }
}
