import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import { PGlite } from '@electric-sql/pglite'
import { vector } from '@electric-sql/pglite-pgvector'
import { afterAll, expect, test } from 'vitest'
import type { NumberedEvent } from '../../lambdas/protocol/chat.ts'
import { resources } from '../../lib/resources.ts'
import { COMPILE_CACHE } from '../../local/compile-cache.ts'
import { type ApiClient, clientOf } from '../harness/client.ts'
import { ACME } from '../harness/turnkeep.ts'
import { rounds } from './drill-cloud.ts'
import { judge } from './judge.ts'
import { createRandom } from './random.ts'
import { ask, read, type Sighting, sessionOf } from './returning-client.ts'
import type { Stored, StoredRow } from './stored.ts'
import { enter } from './table.ts'

const ROUNDS = rounds(10, 1)
const IN_FLIGHT = 5
/** A single round has to find some answers that have ended, and some that have not. */
const EARLIEST_KILL_MS = rounds(0, 1_500)
const LATEST_KILL_MS = 4_000
const START = join(import.meta.dirname, '../../local/start.ts')
/** A restart of everything included. */
const PATIENCE_MS = 60_000

const dataDir = mkdtempSync(join(tmpdir(), 'turnkeep-machine-'))
/** A batch that died with its process comes back sooner than in the product, where saving it may take so long. */
const VISIBILITY_SECONDS = 15
const resourcesFile = join(dataDir, 'resources.json')
const { queues } = resources
writeFileSync(
  resourcesFile,
  JSON.stringify({
    ...resources,
    queues: { ...queues, turns: { ...queues.turns, visibilitySeconds: VISIBILITY_SECONDS } },
  }),
)
let supervisor: ChildProcess | undefined
/** What the processes complained about, for the case that the drill fails. */
let problems = ''
afterAll(async () => {
  await killEverything()
  rmSync(dataDir, { recursive: true, force: true })
})

async function start(port: string): Promise<string> {
  supervisor = spawn(process.execPath, [START], {
    env: {
      PATH: process.env.PATH,
      ...COMPILE_CACHE,
      TURNKEEP_DATA_DIR: dataDir,
      TURNKEEP_PAGE_DIR: dataDir,
      TURNKEEP_RESOURCES: resourcesFile,
      PORT: port,
      LEASE_SECONDS: '2',
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  supervisor.stderr?.on('data', (chunk) => {
    problems += chunk
  })
  // Read to the end: processes that write to a closed pipe die of it.
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  let output = ''
  supervisor.stdout?.on('data', (chunk) => {
    output += chunk
    const [address] = /http:\/\/127\.0\.0\.1:\d+/.exec(output) ?? []
    if (address) resolve(address)
  })
  supervisor.once('exit', () => reject(new Error(`it ended: ${problems}`)))
  return promise
}

async function killEverything(): Promise<void> {
  if (supervisor === undefined || supervisor.exitCode !== null || supervisor.signalCode !== null) return
  const gone = once(supervisor, 'exit')
  supervisor.kill('SIGKILL') // first, or it would start the others again
  for (const name of ['cloud', 'functions']) {
    const pidFile = join(dataDir, `${name}.pid`)
    // Absent where its process has just ended by itself and would have been started again.
    if (existsSync(pidFile)) process.kill(Number(readFileSync(pidFile, 'utf8')), 'SIGKILL')
  }
  await gone
}

const agentOf = (address: string) => clientOf(address, { ...ACME, userId: 'agent', role: 'agent' })

test('what done promised survives when every process is killed', { timeout: 900_000 }, async () => {
  const random = createRandom()
  const sightings: Sighting[] = []
  let address = await start('0')
  const { port } = new URL(address)
  for (let round = 0; round < ROUNDS; round += 1) {
    const asked = Array.from({ length: IN_FLIGHT }, (_, answer) =>
      ask(clientOf(address, { ...ACME, userId: `u${answer}`, role: 'user' }), {
        question: `round ${round}, answer ${answer}: ${answer % 2 ? 'shipping?' : 'a long one, please'}`,
        key: `${round} ${answer}`,
        patienceMs: PATIENCE_MS,
      }),
    )
    await sleep(EARLIEST_KILL_MS + random.integer(LATEST_KILL_MS - EARLIEST_KILL_MS))
    await killEverything()
    address = await start(port)
    sightings.push(...(await Promise.all(asked)))
  }
  const read = await readByHttp(address, sightings)
  await drained()
  await stop()
  const stored = { ...read, rows: await readRows(), deadLetters: countRecords('turns-dead') }
  const { violations, ...counts } = judge(sightings, stored)
  enter({ fault: 'every process killed', rounds: ROUNDS, inFlight: sightings.length, ...counts })
  expect(violations, `DRILL_SEED=${random.seed}\n${problems}`).toEqual([])
  expect(counts).toMatchObject({ kept: counts.promised, duplicates: 0, lost: 0 })
})

async function logOf(agent: ApiClient, messageId: string): Promise<NumberedEvent[]> {
  const { events, refused } = await read(agent, messageId)
  if (refused) throw new Error(`${messageId} cannot be read: ${JSON.stringify(refused)}\n${problems}`)
  return events
}

/** All that can be known from outside: each session with its messages, and each log by reading it again. */
async function readByHttp(
  address: string,
  sightings: readonly Sighting[],
): Promise<Pick<Stored, 'turns' | 'messages'>> {
  const agent = agentOf(address)
  const sessions = await Promise.all(
    sightings.flatMap((sighting) => {
      const session = sessionOf(sighting)
      return session ? [agent.messages(session.sessionId)] : []
    }),
  )
  const messages = sessions.flat()
  const turns = await Promise.all(
    messages
      .filter(({ role }) => role === 'assistant')
      .map(async ({ messageId, parentMessageId }) => ({
        messageId,
        questionId: parentMessageId ?? '',
        state: 'finished' as const,
        log: await logOf(agent, messageId),
      })),
  )
  return { turns, messages }
}

/** Records, watches aside; from the queue's own file, which its process writes. */
function countRecords(queue: string): number {
  using file = new DatabaseSync(join(dataDir, 'queue', 'fauxqs.db'), { readOnly: true })
  const count = file.prepare(
    `select count(*) as count from sqs_messages where queue_name = ? and body not like '{"watch"%'`,
  )
  return Number(count.get(queue)?.count)
}

const DRAINED_WITHIN_MS = 120_000

/** Does not fail when the time is over: the judge says what is missing then. */
async function drained(): Promise<void> {
  for (const until = Date.now() + DRAINED_WITHIN_MS; Date.now() < until; await sleep(100))
    if (countRecords('turns') === 0) return
}

async function stop(): Promise<void> {
  if (supervisor === undefined) return
  const gone = once(supervisor, 'exit')
  supervisor.kill('SIGTERM')
  await gone
}

/** What stands in the table itself, without what readers are given from the log: read from the files that are left. */
async function readRows(): Promise<StoredRow[]> {
  const db = await PGlite.create({ dataDir: join(dataDir, 'postgres'), extensions: { vector } })
  const { rows } = await db.query<StoredRow>(
    'select id, content, content_key, status from public.chat_messages',
  )
  await db.close()
  return rows
}
