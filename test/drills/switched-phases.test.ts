/** The phase switched in a running environment, both ways, twice, while 50 conversations go on. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { describeWithRedis } from '../harness/redis.ts'
import { type DrillCloud, rounds, startDrillCloud } from './drill-cloud.ts'
import { questionText } from './drill-model.ts'
import { conclude } from './report.ts'
import { ask, type Sighting, sessionOf } from './returning-client.ts'

const CONVERSATIONS = 50
const SWITCHED_EVERY_MS = rounds(4_000, 1_500)
/** Of the environment's five messages of history, one would be an answer without its question. */
const MOST_CONTEXT = 4

/** As docs/phase-two.md says: the cache is there before it is used, and stays for a day after. */
const WITHOUT_CACHE = { HOT_STORE: 'postgres', VALKEY_URL: '' }
const switchesWith = (VALKEY_URL: string) => {
  const withCache = { HOT_STORE: 'postgres', VALKEY_URL }
  const phaseTwo = { HOT_STORE: 'valkey', VALKEY_URL }
  return [withCache, phaseTwo, withCache, phaseTwo, withCache]
}

describeWithRedis('a running environment', () => {
  let cloud: DrillCloud
  beforeAll(async () => {
    const phase = { name: 'phase 2', redis: 'single' } as const
    const environment = { ...WITHOUT_CACHE, LEASE_SECONDS: '15' }
    cloud = await startDrillCloud({ phase, name: 'switched', environment })
  })
  afterAll(() => cloud.close())

  test('is switched without a turn lost, repeated or out of order', { timeout: 600_000 }, async () => {
    const switches = switchesWith(cloud.cloud.functionEnvironment.VALKEY_URL ?? '')
    let switching = true
    const talk = async (index: number): Promise<Sighting[]> => {
      const user = cloud.as({ userId: `switched ${index}` })
      const seen: Sighting[] = []
      for (let turn = 0; switching; turn += 1) {
        const name = `switched ${index}.${turn}`
        const sessionId = seen[0] && sessionOf(seen[0])?.sessionId
        const question = questionText({ name, pieces: 5, delayMs: 400 })
        seen.push(await ask(user, { question, key: name, ...(sessionId && { sessionId }) }))
      }
      return seen
    }
    const talking = Promise.all(Array.from({ length: CONVERSATIONS }, (_, index) => talk(index)))
    for (const phase of switches) {
      await sleep(SWITCHED_EVERY_MS)
      // As Lambda does: new processes begin while the old ones finish.
      await cloud.switchFunctions(phase)
    }
    await sleep(SWITCHED_EVERY_MS)
    switching = false
    const conversations = await talking
    const fault = 'phase switched, both ways, twice'
    const sightings = conversations.flat()
    const { stored } = await conclude(cloud, { fault, rounds: switches.length, sightings })

    for (const turns of conversations)
      for (const [index, sighting] of turns.entries())
        expect(sighting.events.at(-1)?.event ?? sighting.refused, sighting.question).toMatchObject({
          type: 'done',
          metadata: {
            contextLength: Math.min(2 * index, MOST_CONTEXT),
            sessionMessageCount: 2 * (index + 1),
          },
        })
    // One line each, in the order in which it was asked.
    const textsOf = new Map<string, string[]>()
    for (const { sessionId, role, content } of stored.messages)
      if (role === 'user') textsOf.set(sessionId, [...(textsOf.get(sessionId) ?? []), content])
    for (const turns of conversations)
      expect(textsOf.get(turns[0] ? (sessionOf(turns[0])?.sessionId ?? '') : '')).toEqual(
        turns.map(({ question }) => question),
      )
    expect(stored.turns).toHaveLength(sightings.length)
  })
})
