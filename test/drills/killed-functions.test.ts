import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, test } from 'vitest'
import { type DrillCloud, inEveryPhase, inPhase, rounds, startDrillCloud } from './drill-cloud.ts'
import { questionText } from './drill-model.ts'
import { expectThreadsToGoOn } from './next-turns.ts'
import { createRandom } from './random.ts'
import { conclude } from './report.ts'
import { ask, type Sighting } from './returning-client.ts'

const IN_FLIGHT = 5
const MOST_PIECES = 20

let cloud: DrillCloud

inEveryPhase((phase) => {
  const ROUNDS = rounds(50, 6)
  beforeAll(async () => {
    cloud = await startDrillCloud({ phase, name: 'killed' })
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
    const fault = inPhase('functions killed at random moments', phase)
    await conclude(cloud, { fault, rounds: ROUNDS, sightings: seen, random })

    await expectThreadsToGoOn(cloud, seen)
  })
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
