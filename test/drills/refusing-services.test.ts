import { afterAll, beforeAll, expect, test } from 'vitest'
import { type DrillCloud, rounds, startDrillCloud } from './drill-cloud.ts'
import { questionText } from './drill-model.ts'
import { type Fate, passAll, type Service } from './fault-proxy.ts'
import { createRandom } from './random.ts'
import { conclude } from './report.ts'
import { ask, type Sighting, sessionOf, terminalOf } from './returning-client.ts'

const ROUNDS = rounds(10, 2)
const IN_FLIGHT = 6
const PIECES = 20

let cloud: DrillCloud
beforeAll(async () => {
  cloud = await startDrillCloud({ name: 'refusing' })
})
afterAll(() => cloud.close())

const refusals: { fault: string; services: Service[]; how: Fate; large: boolean; may: string[] }[] = [
  { fault: 'queue answers 500', services: ['queue'], how: { status: 500 }, large: false, may: ['done'] },
  { fault: 'queue breaks off', services: ['queue'], how: 'break', large: false, may: ['done'] },
  { fault: 'bucket refuses', services: ['bucket'], how: { status: 500 }, large: false, may: ['done'] },
  {
    fault: 'queue and bucket refuse',
    services: ['queue', 'bucket'],
    how: { status: 500 },
    large: false,
    may: ['not_saved'],
  },
  {
    fault: 'bucket refuses, large answers',
    services: ['bucket'],
    how: { status: 500 },
    large: true,
    may: ['done', 'not_saved'],
  },
]

test.each(refusals)('$fault: nothing is lost', { timeout: 300_000 }, async (refusal) => {
  const { fault, services, how, large, may } = refusal
  const random = createRandom()
  const sightings: Sighting[] = []
  for (let round = 0; round < ROUNDS; round += 1) {
    // From the very start, or only after so many events of an answer.
    const from = round % 2 === 0 ? 0 : 1 + random.integer(PIECES / 3)
    const refuse = () => {
      cloud.proxy.decide = ({ service, moment }) =>
        moment === 'before' && services.includes(service) ? how : 'pass'
    }
    if (from === 0) refuse()
    const asked = Array.from({ length: IN_FLIGHT }, (_, answer) =>
      ask(cloud.as(), {
        question: questionText({
          name: `${fault} ${round}.${answer}`,
          pieces: PIECES,
          delayMs: 20 + random.integer(20),
          filling: large ? 3_000 : 0,
        }),
        returns: false,
        onEvent: ({ id }) => {
          if (id === from && from > 0) refuse()
          return false
        },
      }),
    )
    const seen = await Promise.all(asked)
    sightings.push(...seen)
    for (const sighting of seen) {
      const terminal = terminalOf(sighting)
      expect(may, JSON.stringify(sighting.events.at(-1))).toContain(
        terminal?.type === 'error' ? terminal.code : terminal?.type,
      )
    }
    cloud.proxy.decide = passAll
    await cloud.cloud.runtimeApi.invoke('maintain', '{}')
    // Whoever comes next brings what only the log holds to the queue.
    for (const sighting of seen) {
      const sessionId = sessionOf(sighting)?.sessionId ?? ''
      const question = questionText({ name: `after ${sessionId}`, pieces: 1, delayMs: 0 })
      const next = () => ask(cloud.as(), { question, sessionId, returns: false })
      await expect.poll(async () => terminalOf(await next())?.type, { timeout: 15_000 }).toBe('done')
    }
  }
  await conclude(cloud, { fault, rounds: ROUNDS, sightings, random })
})
