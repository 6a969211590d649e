import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type DrillCloud, rounds, startDrillCloud } from './drill-cloud.ts'
import { questionText } from './drill-model.ts'
import { createRandom } from './random.ts'
import { conclude } from './report.ts'
import { ask, type Sighting, sessionOf } from './returning-client.ts'

const ROUNDS = rounds(50, 6)
const IN_FLIGHT = 5
const MOST_PIECES = 20

let cloud: DrillCloud
beforeAll(async () => {
  cloud = await startDrillCloud({ name: 'killed' })
})
afterAll(() => cloud.close())

test('no turn is lost when the functions are killed at random moments', { timeout: 400_000 }, async () => {
  const random = createRandom()
  const latestKillMs = await howLongTheyTake()
  const sightings: Promise<Sighting>[] = []
  for (let round = 0; round < ROUNDS; round += 1) {
    for (let answer = 0; answer < IN_FLIGHT; answer += 1) {
      const name = `killed ${round}.${answer}`
      const question = questionText({
        name,
        pieces: 3 + random.integer(MOST_PIECES),
        delayMs: random.integer(40),
      })
      // Every third leaves for good: its answer has to be ended by those that nobody waits for.
      const returns = answer % 3 !== 2
      const user = cloud.as({ userId: `u${answer}` })
      sightings.push(ask(user, { question, returns, ...(returns && { key: name }) }))
    }
    await sleep(random.integer(latestKillMs))
    await cloud.killFunctions()
  }
  const seen = await Promise.all(sightings)
  const fault = 'functions killed at random moments'
  await conclude(cloud, { fault, rounds: ROUNDS, sightings: seen, random })

  // Every thread goes on, also those whose answer was interrupted.
  const sessions = new Set(seen.flatMap((sighting) => sessionOf(sighting)?.sessionId ?? []))
  const agent = cloud.as({ userId: 'agent', role: 'agent' })
  for (const sessionId of sessions) {
    const [, answer] = await agent.messages(sessionId)
    const question = questionText({ name: `after ${sessionId}`, pieces: 1, delayMs: 0 })
    const next = await ask(agent, { question, sessionId, returns: false })
    expect(next.events.at(-1)?.event).toMatchObject({
      type: 'done',
      metadata: { sessionMessageCount: 4 },
    })
    const messages = await agent.messages(sessionId)
    expect(messages.map(({ sequenceNumber }) => sequenceNumber)).toEqual([1, 2, 3, 4])
    expect(messages[2]?.parentMessageId).toBe(answer?.messageId)
  }
})

/** Undisturbed, on this machine, up to their saving: later there is nothing left to kill. */
async function howLongTheyTake(): Promise<number> {
  const startedAt = Date.now()
  const asked = Array.from({ length: IN_FLIGHT }, (_, answer) =>
    ask(cloud.as(), {
      question: questionText({ name: `undisturbed ${answer}`, pieces: MOST_PIECES, delayMs: 40 }),
    }),
  )
  await Promise.all(asked)
  await cloud.drained()
  return Date.now() - startedAt
}
