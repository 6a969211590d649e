/** Phase 2 while its cache is in trouble: answers go on, new ones begin, and nothing of them is lost. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { BreakableRedis } from '../harness/redis.ts'
import { type DrillCloud, IMPATIENT, inPhase, inPhaseTwo, rounds, startDrillCloud } from './drill-cloud.ts'
import { questionText } from './drill-model.ts'
import { expectThreadsToGoOn } from './next-turns.ts'
import { createRandom } from './random.ts'
import { conclude } from './report.ts'
import { askAloud, type Sighting } from './returning-client.ts'

const ROUNDS = rounds(10, 1)
const IN_FLIGHT = 10
const BEGUN_MEANWHILE = 3
/** Longer than the two seconds in which the cache is not asked after a failure. */
const LASTS_MS = 3_000
const BACK_OFF_MS = 2_200

interface Fault {
  fault: string
  begin(cache: BreakableRedis): unknown
  end?(cache: BreakableRedis): unknown
}

const faults: Fault[] = [
  { fault: 'cache emptied', begin: ({ empty }) => empty() },
  {
    fault: 'cache read-only',
    begin: ({ refuseWrites }) => refuseWrites(true),
    end: ({ refuseWrites }) => refuseWrites(false),
  },
  {
    fault: 'cache silent',
    begin: ({ nodes }) => nodes.map(({ freeze }) => freeze()),
    end: ({ nodes }) => nodes.map(({ thaw }) => thaw()),
  },
]

inPhaseTwo((phase) => {
  let cloud: DrillCloud
  beforeAll(async () => {
    // Leases are longer than the fault: nobody is to rescue what still runs.
    cloud = await startDrillCloud({ phase, name: 'cache', environment: { ...IMPATIENT, LEASE_SECONDS: '6' } })
  })
  afterAll(() => cloud.close())

  test.each(faults)('$fault under running answers: no turn is lost', { timeout: 600_000 }, async (one) => {
    const { fault, begin, end } = one
    const cache = cloud.cache as BreakableRedis
    const random = createRandom()
    const sightings: Sighting[] = []
    const start = (name: string) =>
      askAloud(
        cloud.as({ userId: name }),
        questionText({ name, pieces: 20 + random.integer(60), delayMs: 50 }),
        name,
      )
    for (let round = 0; round < ROUNDS; round += 1) {
      const name = `${fault} ${round}`
      const running = Array.from({ length: IN_FLIGHT }, (_, index) => start(`${name}.${index}`))
      await Promise.all(running.map(({ spoken }) => spoken))
      await sleep(random.integer(400))
      await begin(cache)
      const begun = Array.from({ length: BEGUN_MEANWHILE }, (_, index) => start(`${name}, new ${index}`))
      await sleep(LASTS_MS)
      await end?.(cache)
      sightings.push(...(await Promise.all([...running, ...begun].map(({ seen }) => seen))))
      await sleep(BACK_OFF_MS)
    }
    for (const { events, question } of sightings)
      expect(events.at(-1)?.event, `DRILL_SEED=${random.seed}: ${question}`).toMatchObject({ type: 'done' })
    const leniency = { logMayLag: true }
    await conclude(cloud, { fault: inPhase(fault, phase), rounds: ROUNDS, sightings, random, leniency })
    await expectThreadsToGoOn(cloud, sightings.slice(-IN_FLIGHT))
  })
})
