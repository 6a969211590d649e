/**
 * `npm run bench:archive-open`: how long a client waits for a conversation of 200 messages that is in the archive, and for its
 * next answer's first event there, beside others that have never left. The whole product on one machine, real Postgres.
 * Writes bench/results/archive-open-<date>.json.
 */
import { relative } from 'node:path'
import { clientOf } from '../../test/harness/client.ts'
import { createDatabase, startPostgresServer } from '../../test/harness/postgres-server.ts'
import { startTurnkeep } from '../../test/harness/turnkeep.ts'
import { connect } from '../connect.ts'
import { percentile, rounded } from '../figures.ts'
import { circumstances, keepResult } from '../machine.ts'
import { MESSAGES_PER_SESSION, seed } from './seed.ts'

const MESSAGES = 200
/** Of each kind; some more begin, which are not counted. */
const CONVERSATIONS = 200
const WARM_UP = 40
/** The most that one page has. */
const PAGE = 100
const COMPANY = 'bench'

interface Times {
  p50Ms: number
  p90Ms: number
  p99Ms: number
}

const measured = circumstances()
const server = await startPostgresServer()
const url = await createDatabase(server.url, 'bench_open')
const turnkeep = await startTurnkeep({ databaseUrl: url })
const admin = clientOf(turnkeep.address, {
  companyId: COMPANY,
  platform: 'web',
  userId: 'bench',
  role: 'admin',
})

const sessions = await conversations()
const half = sessions.length / 2
const [stay, leave] = [sessions.slice(0, half), sessions.slice(half)]
await keepInUse(stay)
await turnkeep.cloud.runtimeApi.invoke('archive', '{}', { waitMs: 600_000 })
const results = {
  firstPage: await besides((id) => open(id, 1)),
  wholeConversation: await besides((id) => open(id, MESSAGES / PAGE)),
  firstEventOfNextAnswer: await besides(firstEvent),
}
await turnkeep.close()
await server.close()
for (const [what, { archived, inPostgres }] of Object.entries(results))
  console.log(`${what}: archived ${JSON.stringify(archived)}, in Postgres ${JSON.stringify(inPostgres)}`)
const file = keepResult('archive-open', {
  measured,
  messages: MESSAGES,
  conversations: CONVERSATIONS,
  page: PAGE,
  results,
})
console.log(`\nWritten to ${relative(process.cwd(), file)}`)

/** The ids of as many as are needed of both kinds, all of them old. */
async function conversations(): Promise<string[]> {
  const each = MESSAGES / MESSAGES_PER_SESSION
  await seed(url, COMPANY, 2 * (CONVERSATIONS + WARM_UP) * MESSAGES)
  const client = await connect(url, COMPANY)
  // Several that were seeded become one, in which each message follows the one before it.
  await client.query(`
    with every as (select id, row_number() over (order by id) - 1 as place from chat_sessions),
      kept as (select id, place / ${each} as place from every where place % ${each} = 0)
    update chat_messages m set session_id = k.id, sequence_number = m.sequence_number + ${MESSAGES_PER_SESSION} * (e.place % ${each})
    from every e join kept k on k.place = e.place / ${each} where m.session_id = e.id`)
  await client.query(`
    with placed as (select id, lag(id) over (partition by session_id order by sequence_number) as parent from chat_messages)
    update chat_messages m set parent_message_id = p.parent, created_at = m.created_at + make_interval(secs => m.sequence_number)
    from placed p where p.id = m.id`)
  await client.query(
    'delete from chat_sessions s where not exists (select from chat_messages m where m.session_id = s.id)',
  )
  const { rows } = await client.query<{ id: string }>('select id from chat_sessions order by id')
  await client.end()
  const owner = await connect(url)
  await owner.query('vacuum full analyze chat_messages')
  await owner.end()
  return rows.map(({ id }) => id)
}

async function keepInUse(ids: readonly string[]): Promise<void> {
  const client = await connect(url, COMPANY)
  await client.query('update chat_messages set created_at = now() where session_id = any ($1)', [ids])
  await client.query(
    'update chat_sessions set last_active_at = now(), created_at = now() where id = any ($1)',
    [ids],
  )
  await client.end()
}

/** One of each in turn, so that whatever else the machine does meets both. */
async function besides(ask: (sessionId: string) => Promise<number>) {
  const archived: number[] = []
  const inPostgres: number[] = []
  for (let index = 0; index < CONVERSATIONS + WARM_UP; index += 1)
    for (const [ids, times] of [
      [leave, archived],
      [stay, inPostgres],
    ] as const) {
      const ms = await ask(ids[index] ?? '')
      if (index >= WARM_UP) times.push(ms)
    }
  return { archived: timesOf(archived), inPostgres: timesOf(inPostgres) }
}

/** Reads so many pages from the newest one on. */
async function open(sessionId: string, pages: number): Promise<number> {
  const startedAt = performance.now()
  let after = ''
  for (let page = 0; page < pages; page += 1) {
    const path = `/api/sessions/${sessionId}/messages?order=desc&limit=${PAGE}${after}`
    const { status, body } = await admin.call<{ items: unknown[]; nextAfter: number | null }>('GET', path)
    if (status !== 200 || body.items.length !== PAGE)
      throw new Error(`${body.items?.length} messages, ${status}`)
    after = `&after=${body.nextAfter}`
  }
  return performance.now() - startedAt
}

/** Its history is brought back first. The answer is read to its end, and not measured. */
async function firstEvent(sessionId: string): Promise<number> {
  const startedAt = performance.now()
  let ms = Number.NaN
  const { terminal } = await admin.ask(
    { message: 'and?', sessionId },
    {
      onEvent: () => {
        if (Number.isNaN(ms)) ms = performance.now() - startedAt
        return false
      },
    },
  )
  if (terminal?.type !== 'done') throw new Error('no answer')
  return ms
}

function timesOf(ms: readonly number[]): Times {
  const at = (share: number): number => rounded(percentile(ms, share), 1)
  return { p50Ms: at(0.5), p90Ms: at(0.9), p99Ms: at(0.99) }
}
