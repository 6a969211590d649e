/** Conversations of many lengths in one table, as they are after a while: their rows lie between each other's. */
import { v7 as uuidv7 } from 'uuid'
import type { connect } from '../connect.ts'
import { textOf } from '../text.ts'
import {
  ANSWER_CHARACTERS,
  COMPANY,
  newThread,
  nextTurn,
  QUESTION_CHARACTERS,
  type Thread,
} from '../turns.ts'
import { WHOLE_TABLE, type Whole } from './turn.ts'

/** Different ones of each kind. */
const TEXTS = 200

/**
 * Threads of so many messages each, which are saved. With `today` their turns were all made within the day for which the hot
 * store keeps them.
 */
export async function makeThreads(
  owner: Awaited<ReturnType<typeof connect>>,
  lengths: readonly number[],
  today: boolean,
): Promise<Thread[]> {
  const threads = lengths.map((messages): Thread => ({ sessionId: uuidv7(), messages, newestId: null }))
  const texts = Array.from({ length: 2 * TEXTS }, (_, index) =>
    textOf(index % 2 === 0 ? QUESTION_CHARACTERS : ANSWER_CHARACTERS, 'half Hangul'),
  )
  const ids = JSON.stringify(threads.map(({ sessionId: id, messages }) => ({ id, messages })))
  await owner.query(THREADS, [COMPANY, ids, JSON.stringify(texts), today ? '12 hours' : '20 days'])
  if (today) await owner.query(TURNS, [COMPANY, ids])
  return threads
}

/** The same conversations, each of them one document in a row of its own. */
export async function makeWholes(
  owner: Awaited<ReturnType<typeof connect>>,
  lengths: readonly number[],
): Promise<Whole[]> {
  await owner.query(`
    create table public.${WHOLE_TABLE} (id uuid primary key, body json not null, updated_at timestamptz not null default now());
    grant select, update on public.${WHOLE_TABLE} to turnkeep_app`)
  const wholes = lengths.map((messages): Whole => {
    const thread = newThread()
    const turns = Array.from({ length: messages / 2 }, () => nextTurn(thread)).flat()
    return {
      thread,
      messages: turns.map(({ id, role, content, created_at }) => ({ id, role, content, created_at })),
    }
  })
  for (const { thread, messages } of wholes)
    await owner.query(`insert into public.${WHOLE_TABLE} (id, body) values ($1, $2)`, [
      thread.sessionId,
      JSON.stringify({ messages }),
    ])
  return wholes
}

const THREADS = `
  with threads as materialized (
    select t.id, t.messages from jsonb_to_recordset($2) t (id uuid, messages integer)
  ), texts as materialized (
    select n, text from jsonb_array_elements_text($3) with ordinality t (text, n)
  ), sessions as (
    insert into public.chat_sessions (id, company_id, platform, user_id, title, created_at, message_count)
    select t.id, $1, 'web', 'u1', 'a conversation', now() - $4::interval, t.messages from threads t
  )
  insert into public.chat_messages (id, company_id, platform, session_id, role, content, token_count, response_time_ms, model,
    status, metadata, parent_message_id, sequence_number, created_at)
  select md5(t.id::text || p)::uuid, $1, 'web', t.id, case when p % 2 = 1 then 'user' else 'assistant' end, x.text,
    length(x.text) / 2, case when p % 2 = 0 then 8000 end, case when p % 2 = 0 then 'gpt-5-mini' end, 'complete',
    case when p % 2 = 0 then '{"finishReason": "stop", "promptTokens": 2000, "contextLength": 5, "characters": 1200}' else '{}' end::jsonb,
    case when p > 1 then md5(t.id::text || (p - 1))::uuid end, p, now() - $4::interval + make_interval(secs => p)
  from threads t cross join generate_series(1, t.messages) p
  join texts x on x.n = 1 + 2 * ((p / 2 + hashtext(t.id::text) % 1000 + 1000) % ${TEXTS}) + (p + 1) % 2
  order by p, t.id`

/** Their records are short here: nothing reads them, since the messages are there. */
const TURNS = `
  insert into public.chat_turns (company_id, platform, message_id, question_id, session_id, thread_id, user_id, state,
    lease_until, question, answer, sequence_number, opened_at, finished_at)
  select a.company_id, a.platform, a.id, a.parent_message_id, a.session_id, 'main', 'u1', 'finished', a.created_at, '{}', '{}',
    a.sequence_number, a.created_at, a.created_at
  from jsonb_to_recordset($2) t (id uuid, messages integer)
  join public.chat_messages a on a.company_id = $1 and a.platform = 'web' and a.session_id = t.id and a.role = 'assistant'
  order by a.created_at`
