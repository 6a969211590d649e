/** Old conversations, made in Postgres itself: a million messages do not come through the product's door in time. */
import { connect } from '../connect.ts'

export const MESSAGES_PER_SESSION = 20
/** Characters, half of them Hangul: a question and its answer. */
export const QUESTION_CHARACTERS = 50
export const ANSWER_CHARACTERS = 350
/** Different texts; a segment holds twenty of them. */
const TEXTS = 4_000
const SEEDED_AT_ONCE = 50_000

export interface Shape {
  messagesPerSession?: number
  /** Rows of a conversation lie between those of others, as they do where several go on at once. */
  scattered?: boolean
}

/** `messages` of one company, in conversations that ended 40 to 400 days ago. */
export async function seed(
  url: string,
  companyId: string,
  messages: number,
  shape: Shape = {},
): Promise<void> {
  const { messagesPerSession = MESSAGES_PER_SESSION, scattered = false } = shape
  const client = await connect(url, companyId)
  await client.query(`insert into tenants (company_id, platform) values ($1, 'web')`, [companyId])
  await client.query(TEXT_TABLE)
  const sessions = Math.ceil(messages / messagesPerSession)
  const atOnce = SEEDED_AT_ONCE / messagesPerSession
  const insert = conversations(messagesPerSession, scattered)
  for (let from = 0; from < sessions; from += atOnce)
    await client.query(insert, [companyId, Math.min(atOnce, sessions - from), from, sessions])
  await client.end()
  const owner = await connect(url)
  await owner.query('vacuum analyze chat_messages, chat_sessions')
  await owner.end()
}

/** Words of two to five letters, of two alphabets. */
const TEXT_TABLE = `
  create temporary table texts as
  select n, (
    select string_agg(case when random() < 0.3 then ' ' when random() < 0.5 then chr(44032 + floor(random() * 11172)::integer)
      else chr(97 + floor(random() * 26)::integer) end, '')
    from generate_series(1, case when n % 2 = 1 then ${QUESTION_CHARACTERS} else ${ANSWER_CHARACTERS} end) where n > 0
  ) as text
  from generate_series(1, ${TEXTS}) n`

/** Of version 7, as the product makes them: an index of random ones costs more. */
const idAt = (at: string): string =>
  `(lpad(to_hex((extract(epoch from ${at}) * 1000)::bigint), 12, '0') || '7' || substr(md5(random()::text), 1, 3) ||
    '8' || substr(md5(random()::text), 1, 15))::uuid`

const conversations = (messagesPerSession: number, scattered: boolean): string => `
  with times as (
    -- Rows lie in the table in the order of their time, as they were written.
    select now() - make_interval(secs => (400 - 360 * ($3 + n - random()) / $4::double precision) * 86400) as at
    from generate_series(1, $2::integer) n
  ), made as materialized (
    select ${idAt('t.at')} as id, t.at from times t
  ), sessions as (
    insert into chat_sessions (id, company_id, platform, user_id, title, created_at, last_active_at, expires_at, message_count)
    select m.id, $1, 'web', 'user ' || m.id, 'a conversation', m.at, m.at, m.at + interval '1 day', ${messagesPerSession} from made m
  )
  insert into chat_messages (id, company_id, platform, session_id, role, content, token_count, response_time_ms, model, status,
    metadata, sequence_number, created_at, updated_at, saved_at)
  select ${idAt(`m.at - make_interval(secs => ${messagesPerSession} - p)`)}, $1, 'web', m.id, case when p % 2 = 1 then 'user' else 'assistant' end, t.text, length(t.text) / 2,
    case when p % 2 = 0 then 2300 end, case when p % 2 = 0 then 'gpt-5-mini' end, 'complete', '{"channel": "web"}', p,
    m.at - make_interval(secs => ${messagesPerSession} - p), m.at, m.at
  from made m cross join generate_series(1, ${messagesPerSession}) p
  join texts t on t.n = 1 + (abs(hashtext(m.id::text || p / 2)) % (${TEXTS} / 2)) * 2 + (p + 1) % 2
  ${scattered ? 'order by p, m.id' : ''}`
