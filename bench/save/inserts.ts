/** What saving is compared with: the same rows, without a question asked. */
import { once } from 'node:events'
import pg from 'pg'
import { COMPANY, type MessageRecord } from '../turns.ts'

/** Those that saving writes; the others have their defaults. */
const COLUMNS = [
  'id',
  'company_id',
  'platform',
  'session_id',
  'thread_id',
  'role',
  'content',
  'content_key',
  'token_count',
  'response_time_ms',
  'model',
  'status',
  'sources',
  'metadata',
  'parent_message_id',
  'sequence_number',
  'created_at',
] as const
const TYPES: Partial<Record<(typeof COLUMNS)[number], string>> = {
  id: 'uuid',
  session_id: 'uuid',
  parent_message_id: 'uuid',
  token_count: 'integer',
  response_time_ms: 'integer',
  sequence_number: 'integer',
  sources: 'jsonb',
  metadata: 'jsonb',
  created_at: 'timestamptz',
}

type Cell = string | number | null

const cellsOf = (record: MessageRecord): Cell[] =>
  COLUMNS.map((column) => {
    const value = record[column]
    return typeof value === 'object' && value !== null ? JSON.stringify(value) : value
  })

/** Prepared, so that what is timed is the statement alone. */
export type Statement = () => Promise<unknown>

/** As an application writes many rows at once: prepared, a parameter for each cell. */
export function insertOfValues(client: pg.Client, records: readonly MessageRecord[]): Statement {
  const { text, values } = insertOf(records)
  return () => client.query({ name: `insert of ${records.length}`, text, values })
}

/** The same, and what the answers used beside it: all that saving writes where phase 1 has opened the turns. */
export function insertWithUsage(client: pg.Client, records: readonly MessageRecord[]): Statement {
  const insert = insertOf(records)
  const answers = records.filter(({ role }) => role === 'assistant')
  const sum = (of: (answer: MessageRecord) => unknown): number =>
    answers.reduce((total, answer) => total + Number(of(answer)), 0)
  const used = [
    answers[0]?.created_at.slice(0, 10) ?? '',
    answers[0]?.model ?? '',
    answers.length,
    sum(({ metadata }) => metadata.promptTokens),
    sum((answer) => answer.token_count),
    sum(({ metadata }) => metadata.characters),
    sum((answer) => answer.response_time_ms),
  ]
  const cell = (at: number): string => `$${insert.values.length + at}`
  const row = (owner: string): string =>
    `('${COMPANY}', 'web', '${owner}', ${used.map((_, at) => cell(at + 1)).join()}, ${cell(3)})`
  const text = `with used as (
      insert into public.usage_daily as u (company_id, platform, user_id, day, model, turns, prompt_tokens, completion_tokens,
        answer_characters, response_ms, responses)
      values ${row('u1')}, ${row('')}
      on conflict (company_id, platform, user_id, day, model) do update
      set turns = u.turns + excluded.turns, prompt_tokens = u.prompt_tokens + excluded.prompt_tokens,
        completion_tokens = u.completion_tokens + excluded.completion_tokens,
        answer_characters = u.answer_characters + excluded.answer_characters,
        response_ms = u.response_ms + excluded.response_ms, responses = u.responses + excluded.responses
    )
    ${insert.text}`
  const values = [...insert.values, ...used]
  return () => client.query({ name: `insert of ${records.length} with usage`, text, values })
}

function insertOf(records: readonly MessageRecord[]): { text: string; values: Cell[] } {
  const row = (_: unknown, at: number) =>
    `(${COLUMNS.map((_, column) => `$${at * COLUMNS.length + column + 1}`).join()})`
  return {
    text: `insert into public.chat_messages (${COLUMNS.join()}) values ${records.map(row).join()}`,
    values: records.flatMap(cellsOf),
  }
}

/** The fastest insert there is: an array for each column, written before it is timed. */
export function insertOfArrays(client: pg.Client, records: readonly MessageRecord[]): Statement {
  const arrays = COLUMNS.map((column, at) => `$${at + 1}::${TYPES[column] ?? 'text'}[]`)
  const rows = records.map(cellsOf)
  const values = COLUMNS.map((_, at) => `{${rows.map((row) => inArray(row[at] ?? null)).join()}}`)
  const text = `insert into public.chat_messages (${COLUMNS.join()}) select * from unnest(${arrays.join()})`
  return () => client.query({ name: 'insert of arrays', text, values })
}

const inArray = (cell: Cell): string =>
  cell === null ? 'null' : `"${String(cell).replace(/[\\"]/g, '\\$&')}"`

const COPIED = 'public.copied_messages'

/** Postgres refuses COPY into a table with row-level security, so there is one without. The owner makes it. */
export const TABLE_FOR_COPY = `
  create table ${COPIED} (like public.chat_messages including all);
  grant select, insert, truncate on ${COPIED} to turnkeep_app`

export const EMPTY_TABLE_FOR_COPY = `truncate ${COPIED}`

export function copy(client: pg.Client, records: readonly MessageRecord[]): Statement {
  const lines = records.map((record) => `${cellsOf(record).map(inCopy).join('\t')}\n`)
  const data = Buffer.from(lines.join(''))
  const text = `copy ${COPIED} (${COLUMNS.join()}) from stdin`
  return async () => {
    const query = new pg.Query(text)
    const ended = once(query, 'end') // rejects on 'error'
    client.query(Object.assign(query, { handleCopyInResponse: (to: CopySink) => send(to, data) }))
    await ended
  }
}

/** Of pg's connection, which its types leave out. */
interface CopySink {
  sendCopyFromChunk(chunk: Buffer): void
  endCopyFrom(): void
}

function send(connection: CopySink, data: Buffer): void {
  connection.sendCopyFromChunk(data)
  connection.endCopyFrom()
}

const inCopy = (cell: Cell): string =>
  cell === null
    ? '\\N'
    : String(cell).replace(/[\\\t\n\r]/g, (character) => `\\${ESCAPED[character] ?? character}`)
const ESCAPED: Record<string, string> = { '\t': 't', '\n': 'n', '\r': 'r' }
