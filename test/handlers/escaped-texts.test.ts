/** Texts that are larger as JSON than they are: the Data API's response holds 1 MiB of JSON in JSON in JSON. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { inBothPhases, startTurnkeep, type Turnkeep } from '../harness/turnkeep.ts'

/** As long as a text may be that stands in its row. */
const QUOTES = '"'.repeat(12_000)

inBothPhases('a conversation of quotation marks', (phase) => {
  let turnkeep: Turnkeep
  let asked: { content: string }[] = []
  beforeAll(async () => {
    turnkeep = await startTurnkeep({
      ...phase,
      name: 'escaped',
      environment: { HISTORY_MESSAGES: '20' },
      scriptedModel: {
        respond: ({ messages }) => {
          asked = messages as { content: string }[]
          return { content: Array(33).fill(QUOTES), tokenDelayMs: 0 }
        },
      },
    })
  })
  afterAll(() => turnkeep.close())

  test('goes on with as much of it as there is room for', async () => {
    const user = turnkeep.as({ userId: 'goes on' })
    const [{ id: sessionId } = { id: '' }] = await turnkeep.rows<{ id: string }>(`with recursive session as (
        insert into chat_sessions (id, company_id, platform, user_id, message_count)
        values (gen_random_uuid(), 'acme', 'web', 'goes on', 40) returning id
      ), chain as (
        select 1 as n, gen_random_uuid() as id, null::uuid as parent
        union all select n + 1, gen_random_uuid(), id from chain where n < 40
      ), messages as (
        insert into chat_messages (id, company_id, platform, session_id, role, content, status, sequence_number, parent_message_id, created_at)
        select c.id, 'acme', 'web', s.id, case when n % 2 = 1 then 'user' else 'assistant' end, '${QUOTES}', 'complete', n, parent,
          now() - make_interval(secs => 40 - n)
        from chain c cross join session s
      )
      select id from session`)
    const reply = await user.ask({ message: 'and now?', sessionId })
    expect(reply.terminal?.type).toBe('done')
    const history = asked.filter(({ content }) => content === QUOTES)
    // The model's context holds two of them; twenty are asked for.
    expect(history).toHaveLength(2)
  })

  test('has its answer replayed whole', async () => {
    const user = turnkeep.as({ userId: 'replayed' })
    const { session, text } = await user.ask('first')
    expect(text.length).toBe(33 * QUOTES.length)
    const replayed = await user.stream('GET', `/api/chat/stream/${session?.messageId}`)
    expect(replayed.terminal?.type).toBe('done')
    expect(replayed.text === text).toBe(true)
  })
})
