import { afterAll, beforeAll, expect, test } from 'vitest'
import { startTurnkeep, type Turnkeep } from '../harness/turnkeep.ts'

let turnkeep: Turnkeep
let modelFails = false
beforeAll(async () => {
  turnkeep = await startTurnkeep({
    name: 'logs',
    scriptedModel: {
      respond: ({ messages }) =>
        modelFails
          ? { error: { status: 400, message: `bad prompt: ${messages.at(-1)?.content}` } }
          : { content: 'answer-marker-카나리아' },
    },
  })
})
afterAll(() => turnkeep.close())

test('no log line holds content or a token, also where things fail; every line is JSON with its ids', async () => {
  const user = turnkeep.as({ userId: 'logged' })
  const reply = await user.ask('question-marker-카나리아')
  await user.call('POST', `/api/messages/${reply.session?.messageId}/feedback`, {
    score: 1,
    comment: 'comment-marker',
  })
  await user.call('POST', '/api/chat', { message: 'field-marker', threadId: 5 })
  await user.call('POST', '/api/chat', '{"message": "broken-marker')
  modelFails = true
  await user.ask('refused-marker')
  await user.ask({ message: `large-marker${'x'.repeat(90_000)}` })
  // A record that Postgres refuses: its error would quote the row.
  await turnkeep.rows(`alter table chat_messages add constraint no_marker check (content <> 'poison-marker')`)
  modelFails = false
  await user.ask('poison-marker')
  await turnkeep.drained()

  const lines = turnkeep.output().trim().split('\n')
  expect(lines.join('\n')).not.toMatch(/marker/)
  expect(lines.join('\n')).not.toContain((await user.token).split('.')[2])
  const entries = lines.map((line) => JSON.parse(line))
  expect(entries.filter(({ message }) => message === 'answer ended')).toContainEqual(
    expect.objectContaining({
      level: 'INFO',
      service: 'turnkeep-chat',
      sessionId: reply.session?.sessionId,
      messageId: reply.session?.messageId,
      companyId: 'acme',
      platform: 'web',
      requestId: expect.any(String),
      outcome: 'stop',
    }),
  )
  expect(entries).toContainEqual(
    expect.objectContaining({ message: 'record dead-lettered', reason: '23514' }),
  )
})
