import { afterAll, beforeAll, expect, test } from 'vitest'
import { resources } from '../../lib/resources.ts'
import { startTurnkeep, type Turnkeep } from '../harness/turnkeep.ts'

/** Lambda would end the function after 17 s; 15 s before that the answer must be ended properly. */
const timeoutSeconds = 17

let turnkeep: Turnkeep
beforeAll(async () => {
  const chat = { ...resources.functions.chat, handler: 'lambdas/handlers/chat.ts', timeoutSeconds }
  turnkeep = await startTurnkeep({
    name: 'limit',
    resources: { ...resources, functions: { ...resources.functions, chat } },
    scriptedModel: { respond: () => ({ content: 'word '.repeat(1_000), tokenDelayMs: 50 }) },
  })
})
afterAll(() => turnkeep.close())

test('an answer that would outlive its function is ended in time, and what came is kept', async () => {
  const user = turnkeep.as()
  const reply = await user.ask('tell me everything')
  expect(reply.terminal).toMatchObject({ type: 'error', code: 'interrupted', retryable: true })
  expect((await user.messages(reply.session?.sessionId ?? ''))[1]).toMatchObject({
    status: 'interrupted',
    content: reply.text,
  })
  expect(reply.text.length).toBeGreaterThan(10)
})
