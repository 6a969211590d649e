import { afterAll, beforeAll, expect, test } from 'vitest'
import { inBothPhases, promptBatches, startTurnkeep, type Turnkeep } from '../harness/turnkeep.ts'

/** A kill may meet persist with the question in its hands, which comes back only then: in 90 s, unless told otherwise. */
const VISIBILITY_SECONDS = 10
const soonBack = {
  ...promptBatches,
  queues: Object.fromEntries(
    Object.entries(promptBatches.queues).map(([name, queue]) => [
      name,
      { ...queue, visibilitySeconds: VISIBILITY_SECONDS },
    ]),
  ),
}

inBothPhases('a crash', (phase) => {
  let turnkeep: Turnkeep
  beforeAll(async () => {
    turnkeep = await startTurnkeep({
      ...phase,
      name: 'crash',
      resources: soonBack,
      scriptedModel: { tokenDelayMs: 20 },
      environment: { LEASE_SECONDS: '2' },
    })
  })
  afterAll(() => turnkeep.close())

  const LONG = '길게 써 주세요'

  test('functions killed in the middle of an answer: what was seen is kept, the front door answers, the next turn works', async () => {
    const user = turnkeep.as({ userId: 'unlucky' })
    const reply = await user.ask(LONG, {
      onEvent: async ({ id }) => {
        if (id === 15) await turnkeep.killFunctions()
        return false
      },
    })
    expect(reply.terminal).toBeUndefined()
    expect((await fetch(`${turnkeep.address}/api/health`)).status).toBe(200)
    const sessionId = reply.session?.sessionId ?? ''
    expect((await user.messages(sessionId))[0]).toMatchObject({ content: LONG, role: 'user' })

    const rest = await user.stream('GET', `/api/chat/stream/${reply.session?.messageId}`, undefined, {
      headers: { 'last-event-id': String(reply.events.at(-1)?.id) },
    })
    expect(rest.terminal).toMatchObject({
      type: 'error',
      code: 'interrupted',
      messageId: reply.session?.messageId,
    })
    const [, answer] = await user.messages(sessionId)
    expect(answer).toMatchObject({ status: 'interrupted', content: reply.text + rest.text })
    expect(reply.text.length).toBeGreaterThan(0)

    const next = await user.ask({ message: 'hello again', sessionId })
    expect(next.terminal?.type).toBe('done')
    await turnkeep.drained()
    expect((await user.messages(sessionId)).map(({ sequenceNumber }) => sequenceNumber)).toEqual([1, 2, 3, 4])
  })

  test('nobody comes back for the answer: its watch ends it', async () => {
    const user = turnkeep.as({ userId: 'gone' })
    const reply = await user.ask(LONG, {
      onEvent: async ({ id }) => {
        if (id === 10) await turnkeep.killFunctions()
        return false
      },
    })
    const row = async () =>
      (
        await turnkeep.rows<{ status: string; content: string }>(
          `select status, content from chat_messages where id = '${reply.session?.messageId}'`,
        )
      )[0]
    await expect.poll(row, { timeout: 15_000, interval: 200 }).toMatchObject({ status: 'interrupted' })
    expect((await row())?.content.startsWith(reply.text)).toBe(true)
  })

  test('told to end, the functions end running answers properly: what there is is saved as interrupted', async () => {
    const user = turnkeep.as({ userId: 'polite' })
    const child = turnkeep.functions()
    const reply = await user.ask(LONG, {
      onEvent: async ({ id }) => {
        if (id === 12) child.kill('SIGTERM')
        return false
      },
    })
    expect(reply.terminal).toMatchObject({ type: 'error', code: 'interrupted', retryable: true })
    await turnkeep.killFunctions()
    expect((await user.messages(reply.session?.sessionId ?? ''))[1]).toMatchObject({
      status: 'interrupted',
      content: reply.text,
    })
  })
})
