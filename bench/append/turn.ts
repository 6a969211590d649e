/** One turn on a connection of its own: opened, ended and saved, as the functions do it, without what is between them. */
import pg from 'pg'
import { median } from '../figures.ts'
import { COMPANY, type MessageRecord, nextTurn, type Thread } from '../turns.ts'

export interface Cost {
  ms: number
  /** Of one call, its commit aside. */
  walBytes: number
  /** Of 8 KiB, in memory or not. */
  blocks: number
}

/** Runs one statement and tells what it costs, and what it returns where it is asked for time. */
export type Run = (text: string, values: readonly unknown[]) => Promise<{ rows: Row[]; cost: Cost }>
type Row = Record<string, unknown>

export const timing =
  (client: pg.Client): Run =>
  async (text, values) => {
    const startedAt = performance.now()
    const { rows } = await client.query({ name: text.slice(0, MAX_NAME), text, values: [...values] })
    return { rows, cost: { ms: performance.now() - startedAt, walBytes: Number.NaN, blocks: Number.NaN } }
  }
/** Bytes; Postgres cuts names off there. */
const MAX_NAME = 60

/** The same statement under EXPLAIN, which counts what functions inside it do as well. It gives no rows. */
export const counting =
  (client: pg.Client): Run =>
  async (text, values) => {
    const filled = text.replace(/\$(\d+)/g, (_, place) => literal(values[Number(place) - 1]))
    const { rows } = await client.query(`explain (analyze, buffers, wal, timing off, format json) ${filled}`)
    const [{ Plan }] = rows[0]['QUERY PLAN']
    const blocks = Plan['Shared Hit Blocks'] + Plan['Shared Read Blocks']
    return { rows: [], cost: { ms: Number.NaN, walBytes: Plan['WAL Bytes'], blocks } }
  }

const literal = (value: unknown): string =>
  value === null ? 'null' : typeof value === 'number' ? String(value) : pg.escapeLiteral(String(value))

/** The two records as saving gets them, in a thread's next places. */
export interface Turn {
  records: [MessageRecord, MessageRecord]
  opening: Cost
  saving: Cost
}

/** `run` is for what is measured, opening and saving; all else goes by the client. */
export async function appendTurn(client: pg.Client, run: Run, thread: Thread): Promise<Turn> {
  const records = nextTurn(thread)
  const [question, answer] = records
  const { session_id, user_id, parent_message_id, sequence_number, created_at, ...unplaced } = question
  const opened = await run('select * from turnkeep.open_turn($1, $2, $3)', [
    COMPANY,
    'web',
    JSON.stringify({
      session_id,
      session_exists: true,
      owner: user_id,
      owned_by: user_id,
      caller: user_id,
      thread_id: 'main',
      message_id: answer.id,
      question: unplaced,
      lease_seconds: 60,
      history_count: 5,
      history_bytes: 1_000_000,
    }),
  ])
  const refused = opened.rows.find(
    ({ kind }) => kind === 'refused' || kind === 'archived' || kind === 'lapsed',
  )
  if (refused) throw new Error(`The turn was not opened: ${JSON.stringify(refused)}`)
  await client.query('select turnkeep.close_turn($1, $2, $3, 1, 60, $4, $5)', [
    COMPANY,
    'web',
    answer.id,
    '[]',
    JSON.stringify(answer),
  ])
  await client.query('select turnkeep.finish_turn($1, $2, $3, 1, 0, $4)', [
    COMPANY,
    'web',
    answer.id,
    '{"type": "done"}',
  ])
  const saved = await run('select * from turnkeep.save_records($1)', [JSON.stringify(records)])
  return { records, opening: opened.cost, saving: saved.cost }
}

const BARE = `insert into public.chat_messages (id, company_id, platform, session_id, role, content, status, parent_message_id,
    sequence_number)
  values ($1, $2, 'web', $3, 'user', $4, 'complete', $5, $6), ($7, $2, 'web', $3, 'assistant', $8, 'complete', $1, $9)`

/** The plainest way to append: both rows in one insert. */
export async function insertTurn(run: Run, thread: Thread): Promise<Cost> {
  const [question, answer] = nextTurn(thread)
  const { cost } = await run(BARE, [
    question.id,
    COMPANY,
    thread.sessionId,
    question.content,
    question.parent_message_id,
    question.sequence_number,
    answer.id,
    answer.content,
    answer.sequence_number,
  ])
  return cost
}

/** A conversation that is kept as one document. */
export interface Whole {
  thread: Thread
  messages: object[]
}

export const WHOLE_TABLE = 'whole_conversations'

/** As it is done where a conversation is one document: all of it is written with each turn. Reading it and putting it together is left out. */
export async function rewriteConversation(run: Run, { thread, messages }: Whole): Promise<Cost> {
  for (const { id, role, content, created_at } of nextTurn(thread))
    messages.push({ id, role, content, created_at })
  const { cost } = await run(
    `update public.${WHOLE_TABLE} set body = $2::json, updated_at = now() where id = $1::uuid`,
    [thread.sessionId, JSON.stringify({ messages })],
  )
  return cost
}

export const medianCost = (costs: readonly Cost[]): Cost => {
  const of = (name: keyof Cost): number =>
    median(costs.map((cost) => cost[name]).filter((value) => !Number.isNaN(value)))
  return { ms: of('ms'), walBytes: of('walBytes'), blocks: of('blocks') }
}
