import { describe, expect, test } from 'vitest'
import { startTurnkeep } from '../harness/turnkeep.ts'

const CONVERSATIONS = 100

// The embedded one has a single connection: more turns would tell nothing new.
describe.each([
  { on: 'pglite', turns: 2 },
  { on: 'postgres', turns: 5 },
] as const)('on $on', ({ on, turns }) => {
  test(`100 conversations of ${turns} turns at once: none fails, every message is in its place, nothing is missing`, async () => {
    const turnkeep = await startTurnkeep({ on, name: 'crowd' })
    try {
      const talk = async (number: number) => {
        const user = turnkeep.as({ userId: `user ${number}`, companyId: `company ${number % 7}` })
        let sessionId: string | undefined
        const said: string[] = []
        for (let turn = 0; turn < turns; turn += 1) {
          const message = `대화 ${number}, 질문 ${turn}`
          const reply = await user.ask({ message, ...(sessionId ? { sessionId } : {}) })
          expect(reply.terminal).toMatchObject({
            type: 'done',
            metadata: { sessionMessageCount: 2 * (turn + 1) },
          })
          sessionId = reply.session?.sessionId
          said.push(message, reply.text)
        }
        const check = async () => {
          const messages = await user.messages(sessionId ?? '')
          expect(messages.map(({ content }) => content)).toEqual(said)
          expect(messages.map(({ sequenceNumber }) => sequenceNumber)).toEqual(
            said.map((_, index) => index + 1),
          )
          expect(messages.map(({ parentMessageId }) => parentMessageId)).toEqual([
            null,
            ...messages.slice(0, -1).map(({ messageId }) => messageId),
          ])
        }
        await check()
        return check
      }
      const checks = await Promise.all(Array.from({ length: CONVERSATIONS }, (_, number) => talk(number)))
      await turnkeep.drained()
      // What a busy machine's queue did not take in time is spooled, and maintenance brings it.
      await turnkeep.cloud.runtimeApi.invoke('maintain', '{}')
      await turnkeep.drained()
      for (const check of checks) await check()
      let rows = 0
      for (let company = 0; company < 7; company += 1)
        rows += Number(
          (
            await turnkeep.rows<{ n: string }>('select count(*) as n from chat_messages', {
              companyId: `company ${company}`,
              platform: 'web',
            })
          )[0]?.n,
        )
      expect(rows).toBe(CONVERSATIONS * turns * 2)
    } finally {
      await turnkeep.close()
    }
  }, 120_000)
})
