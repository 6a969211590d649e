/** Loading: the last 50 messages of a conversation, where the table has a million. */
import type pg from 'pg'
import { amount, table } from '../../lib/cost/table.ts'
import { startTestDatabase, type TestDatabase } from '../../test/harness/database.ts'
import { seed } from '../archive/seed.ts'
import { connect, connectAsFunction } from '../connect.ts'
import { medianRatio, percentile, rounded, shuffled, verdict } from '../figures.ts'
import { COMPANY } from '../turns.ts'

export interface LoadFigure {
  subject: string
  p50Ms: number
  p99Ms: number
  /** Against the bare select of the same round, the median. */
  timesBare: number
  /** What p50 is to be below. */
  aimMs?: number
}

export interface LoadFigures {
  messages: number
  messagesPerConversation: number
  samples: number
  loads: LoadFigure[]
}

const MESSAGES_PER_CONVERSATION = 200
const LAST = 50
/** Of text, in one answer of the Data API. */
const MOST_BYTES = 600_000
/** What is called so often has been compiled, here and in the Data API. */
const WARM_UP_ROUNDS = 200
const ROUNDS = 200
/** Conversations whose turns the hot store still has, since they are of today. */
const OF_TODAY = 40
const MOST_MS = 3

const BASELINE = 'bare select'
const BARE = `select * from public.chat_messages
  where company_id = $1 and platform = 'web' and session_id = $2 and not is_deleted
  order by sequence_number desc, id desc limit ${LAST}`

export async function measureLoad({ messages = 1_000_000 } = {}): Promise<LoadFigures> {
  const database = await startTestDatabase('real', 'bench_load')
  try {
    await seed(database.url, COMPANY, messages, {
      messagesPerSession: MESSAGES_PER_CONVERSATION,
      scattered: true,
    })
    const client = await connectAsFunction(database.url, COMPANY)
    const loads = await measureLoads(database, client, await conversations(database.url))
    await client.end()
    return { messages, messagesPerConversation: MESSAGES_PER_CONVERSATION, samples: ROUNDS, loads }
  } finally {
    await database.close()
  }
}

/** Those of today, and the others. */
async function conversations(url: string): Promise<{ today: string[]; older: string[] }> {
  const owner = await connect(url, COMPANY)
  const { rows } = await owner.query<{ id: string }>('select id from public.chat_sessions order by id')
  const ids = rows.map(({ id }) => id)
  const today = ids.slice(0, OF_TODAY)
  await owner.query(
    `insert into public.chat_turns (company_id, platform, message_id, question_id, session_id, thread_id, user_id, state,
      lease_until, question, answer, sequence_number, opened_at, finished_at)
    select a.company_id, a.platform, a.id, q.id, a.session_id, 'main', 'u1', 'finished', now(), '{}', '{}', a.sequence_number,
      now(), now()
    from public.chat_messages a
    join public.chat_messages q on q.company_id = a.company_id and q.platform = a.platform and q.session_id = a.session_id
      and q.sequence_number = a.sequence_number - 1
    where a.company_id = $1 and a.platform = 'web' and a.session_id = any ($2) and a.role = 'assistant'`,
    [COMPANY, today],
  )
  await owner.query('vacuum analyze public.chat_turns')
  await owner.end()
  return { today, older: ids.slice(OF_TODAY) }
}

interface Subject {
  name: string
  aimMs?: number
  /** Rows that came. */
  load(): Promise<number>
}

async function measureLoads(
  { app }: TestDatabase,
  client: pg.Client,
  { today, older }: { today: string[]; older: string[] },
): Promise<LoadFigure[]> {
  const any = (ids: readonly string[]): string => ids[Math.floor(Math.random() * ids.length)] ?? ''
  // Whose conversation it is: what others read is recorded as well.
  const caller = (id: string) => ({ user_id: `user ${id}`, role: 'user' })
  const viaDataApi = (id: string) =>
    app.callFor({ companyId: COMPANY, platform: 'web' }, 'read_messages', [
      { jsonb: caller(id) },
      { uuid: id },
      { text: null },
      { boolean: true },
      { integer: null },
      { uuid: null },
      { integer: LAST },
      { integer: MOST_BYTES },
    ])
  const direct = async (id: string) => {
    const { rows } = await client.query({
      name: 'read_messages',
      text: `select * from turnkeep.read_messages($1, 'web', $2, $3, null, true, null, null, ${LAST}, ${MOST_BYTES})`,
      values: [COMPANY, JSON.stringify(caller(id)), id],
    })
    return rows
  }
  const bare = async (id: string) => {
    const { rows } = await client.query({ name: 'bare', text: BARE, values: [COMPANY, id] })
    return rows
  }
  // The operation's rows have one more before them, which is about the session.
  const subjects: Subject[] = [
    { name: BASELINE, load: async () => (await bare(any(older))).length },
    { name: 'read_messages', load: async () => (await direct(any(older))).length - 1 },
    {
      name: 'read_messages through the Data API',
      aimMs: MOST_MS,
      load: async () => (await viaDataApi(any(older))).length - 1,
    },
    {
      name: 'the same, turns of today',
      aimMs: MOST_MS,
      load: async () => (await viaDataApi(any(today))).length - 1,
    },
  ]
  const measured = subjects.map((subject) => ({ subject, times: [] as number[] }))
  for (let round = -WARM_UP_ROUNDS; round < ROUNDS; round += 1)
    for (const { subject, times } of shuffled(measured)) {
      const startedAt = performance.now()
      const count = await subject.load()
      const ms = performance.now() - startedAt
      if (count !== LAST) throw new Error(`${subject.name} gave ${count} messages.`)
      if (round >= 0) times.push(ms)
    }
  const bareTimes = measured.find(({ subject }) => subject.name === BASELINE)?.times ?? []
  return measured.map(({ subject: { name, aimMs }, times }) => ({
    subject: name,
    p50Ms: rounded(percentile(times, 0.5)),
    p99Ms: rounded(percentile(times, 0.99)),
    timesBare: medianRatio(times, bareTimes),
    ...(aimMs !== undefined && { aimMs }),
  }))
}

export function printLoad({ messages, messagesPerConversation, samples, loads }: LoadFigures): void {
  console.log(
    `The last ${LAST} of a conversation of ${messagesPerConversation}, in a table of ${amount(messages)}; of ${samples} samples.`,
  )
  console.log(
    table(
      loads.map(({ subject, p50Ms, p99Ms, timesBare, aimMs }) => ({
        by: subject,
        'p50 ms': p50Ms.toFixed(2),
        'p99 ms': p99Ms.toFixed(2),
        'times bare': timesBare.toFixed(2),
        aim: aimMs === undefined ? '' : `${aimMs} ms ${verdict(p50Ms < aimMs)}`,
      })),
    ),
  )
}
