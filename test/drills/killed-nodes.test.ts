/** A server of the cluster killed under 50 running answers. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type BreakableRedis, describeWithRedis, startRedis } from '../harness/redis.ts'
import { type DrillCloud, IMPATIENT, isLong, rounds, startDrillCloud } from './drill-cloud.ts'
import { questionText } from './drill-model.ts'
import { expectThreadsToGoOn } from './next-turns.ts'
import { createRandom } from './random.ts'
import { conclude } from './report.ts'
import { askAloud, type Sighting } from './returning-client.ts'

const IN_FLIGHT = 50
const BEGUN_MEANWHILE = 10
/** So that answers run while the server is gone and go on after it is back: about 5 s without it, whoever comes back. */
const PIECES = { least: 60, more: 60 }
const PIECE_MS = 80
/** Without a replica its slots are nobody's for so long. */
const GONE_MS = 4_000

interface Loss {
  fault: string
  replicas: boolean
  rounds: number
}

const losses: Loss[] = [
  { fault: 'node killed, its replica takes over', replicas: true, rounds: rounds(3, 1) },
  { fault: 'node killed, its slots are gone until it is back', replicas: false, rounds: rounds(5, 0) },
]

describeWithRedis('a cluster', () => {
  describe.each(losses.filter((loss) => isLong || loss.rounds > 0))('$fault', (loss) => {
    const { fault, replicas } = loss
    let cache: BreakableRedis
    let cloud: DrillCloud
    beforeAll(async () => {
      cache = await startRedis('cluster', { replicas })
      cloud = await startDrillCloud({
        cache,
        name: 'nodes',
        environment: { ...IMPATIENT, LEASE_SECONDS: '6' },
      })
    })
    afterAll(() => cloud.close())

    test('no turn is lost', { timeout: 600_000 }, async () => {
      const random = createRandom()
      const sightings: Sighting[] = []
      const start = (name: string) =>
        askAloud(
          cloud.as({ userId: name }),
          questionText({ name, pieces: PIECES.least + random.integer(PIECES.more), delayMs: PIECE_MS }),
          name,
        )
      for (let round = 0; round < loss.rounds; round += 1) {
        const victim = cache.nodes[(random.seed + round) % cache.nodes.length]
        const running = Array.from({ length: IN_FLIGHT }, (_, index) => start(`${fault} ${round}.${index}`))
        await Promise.all(running.map(({ spoken }) => spoken))
        await sleep(random.integer(1_000))
        await victim?.kill()
        const begun = Array.from({ length: BEGUN_MEANWHILE }, (_, index) =>
          start(`${fault} ${round}, new ${index}`),
        )
        if (!replicas) {
          await sleep(GONE_MS)
          await victim?.restart()
        }
        sightings.push(...(await Promise.all([...running, ...begun].map(({ seen }) => seen))))
        // It comes back as a copy of the one that took its place.
        if (replicas) await victim?.restart()
      }
      for (const { events, question } of sightings)
        expect(events.at(-1)?.event, `DRILL_SEED=${random.seed}: ${question}`).toMatchObject({ type: 'done' })
      const leniency = { logMayLag: true }
      await conclude(cloud, { fault, rounds: loss.rounds, sightings, random, leniency })
      await expectThreadsToGoOn(cloud, sightings.slice(-IN_FLIGHT))
    })
  })
})
