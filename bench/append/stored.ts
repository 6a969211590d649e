/** What a turn takes on disk: heap, indexes and toast of its messages, against their texts. */
import type pg from 'pg'
import { rounded } from '../figures.ts'
import type { Alphabet } from '../text.ts'
import { newThread, nextTurn } from '../turns.ts'

export interface Stored {
  alphabet: Alphabet
  /** Of one turn, from here on; the texts alone. */
  characters: number
  textBytes: number
  heapBytes: number
  indexBytes: number
  toastBytes: number
  /** All three against the texts. */
  ratio: number
  /** Of its session's row, which each turn writes anew; a vacuum makes room of them. */
  sessionBytes: number
  /** The same of a table that holds nothing but id, session, role, text and time, with two indexes. */
  plainRatio: number
  /** One against the other. */
  timesPlain: number
}

const TURNS = 500
/** Texts of one length would fill pages well or badly by chance. */
const SPREAD = 0.5
const ALPHABETS: Alphabet[] = ['Latin', 'half Hangul', 'Hangul', 'Korean prose']
const MESSAGES = 'chat_messages'
const SESSIONS = 'chat_sessions'
const PLAIN = 'plain_messages'
const TABLES = [MESSAGES, SESSIONS, PLAIN] as const

/** Tables of the database are emptied. */
export async function measureStored(client: pg.Client, owner: pg.Client): Promise<Stored[]> {
  await owner.query(`
    create table public.${PLAIN} (id uuid primary key, session_id uuid not null, role text not null, content text not null,
      created_at timestamptz not null default now());
    create index on public.${PLAIN} (session_id, created_at);
    grant insert on public.${PLAIN} to turnkeep_app`)
  const all: Stored[] = []
  for (const alphabet of ALPHABETS) all.push(await measureThread(client, owner, alphabet))
  return all
}

async function measureThread(client: pg.Client, owner: pg.Client, alphabet: Alphabet): Promise<Stored> {
  await owner.query(`truncate ${TABLES.map((name) => `public.${name}`).join()}`)
  const empty = await sizes(owner)
  const thread = newThread()
  const sum = { characters: 0, bytes: 0 }
  for (let turn = 0; turn < TURNS; turn += 1) {
    const records = nextTurn(thread, { alphabet, spread: SPREAD })
    for (const { content } of records) {
      sum.characters += content.length
      sum.bytes += Buffer.byteLength(content)
    }
    await client.query('select * from turnkeep.save_records($1)', [JSON.stringify(records)])
    for (const { id, session_id, role, content } of records)
      await client.query(
        `insert into public.${PLAIN} (id, session_id, role, content) values ($1, $2, $3, $4)`,
        [id, session_id, role, content],
      )
  }
  const full = await sizes(owner)
  const [messages, sessions, plain] = TABLES.map((name) => less(full[name], empty[name])) as [
    Size,
    Size,
    Size,
  ]
  const all = ({ heap, index, toast }: Size): number => heap + index + toast
  return {
    alphabet,
    characters: Math.round(sum.characters / TURNS),
    textBytes: Math.round(sum.bytes / TURNS),
    heapBytes: Math.round(messages.heap / TURNS),
    indexBytes: Math.round(messages.index / TURNS),
    toastBytes: Math.round(messages.toast / TURNS),
    ratio: rounded(all(messages) / sum.bytes),
    sessionBytes: Math.round(all(sessions) / TURNS),
    plainRatio: rounded(all(plain) / sum.bytes),
    timesPlain: rounded(all(messages) / all(plain)),
  }
}

interface Size {
  heap: number
  index: number
  toast: number
}

const less = (one: Size, other: Size): Size => ({
  heap: one.heap - other.heap,
  index: one.index - other.index,
  toast: one.toast - other.toast,
})

async function sizes(owner: pg.Client): Promise<Record<(typeof TABLES)[number], Size>> {
  const { rows } = await owner.query<{ name: string; heap: string; index: string; toast: string }>(
    `select c.relname as name, pg_indexes_size(c.oid) as index, t.bytes as toast, pg_table_size(c.oid) - t.bytes as heap
    from pg_class c
    cross join lateral (select coalesce(pg_total_relation_size(nullif(c.reltoastrelid, 0)), 0)) t (bytes)
    where c.relnamespace = 'public'::regnamespace and c.relname = any ($1)`,
    [[...TABLES]],
  )
  return Object.fromEntries(
    rows.map(({ name, heap, index, toast }) => [
      name,
      { heap: Number(heap), index: Number(index), toast: Number(toast) },
    ]),
  ) as Record<(typeof TABLES)[number], Size>
}
