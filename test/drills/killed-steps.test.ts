import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { describeStep, type Step, track } from './aim.ts'
import { type DrillCloud, inPhase, inProxiedPhases, isLong, startDrillCloud } from './drill-cloud.ts'
import { type Scenario, STEP_WITHIN_MS, scenarios } from './kill-scenarios.ts'
import { createRandom, pick } from './random.ts'
import { conclude } from './report.ts'
import type { Sighting } from './returning-client.ts'
import { ended } from './stored.ts'

/** Kills of each scenario; the long form takes every moment of every call. */
const SHORT_FORM = 4

let cloud: DrillCloud

/** What an undisturbed run consists of: a call that is new in the product is killed without being listed here. */
async function stepsOf({ name, question: ask, play }: Scenario): Promise<Step[]> {
  const question = ask(`${name}, undisturbed`)
  const tracked = track(cloud, question)
  await play(cloud, tracked, question, () => undefined)
  await ended(cloud)
  tracked.end()
  return tracked.steps
}

inProxiedPhases((phase) => {
  beforeAll(async () => {
    cloud = await startDrillCloud({ phase, name: 'steps' })
  })
  afterAll(() => cloud.close())

  describe.each(scenarios)('a kill at each step: $name', (scenario) => {
    test('loses nothing', { timeout: 900_000 }, async () => {
      const steps = await stepsOf(scenario)
      const calls = steps.filter(({ moment }) => moment === 'before').length
      const random = createRandom()
      const kills = isLong ? steps : pick(steps, SHORT_FORM, random)
      const sightings: Promise<Sighting>[] = []
      const missed: string[] = []
      for (const [round, kill] of kills.entries()) {
        const question = scenario.question(`${scenario.name}, ${round}: ${describeStep(kill)}`)
        const tracked = track(cloud, question)
        const aimed = Promise.withResolvers<void>()
        sightings.push(
          scenario.play(cloud, tracked, question, () => {
            tracked.aimAt(kill)
            aimed.resolve()
          }),
        )
        await aimed.promise
        if (await tracked.wasHit(STEP_WITHIN_MS)) await cloud.killFunctions()
        else missed.push(describeStep(kill))
      }
      cloud.proxy.decide = () => 'pass'
      if (scenario.spools) await cloud.cloud.runtimeApi.invoke('maintain', '{}')
      await conclude(cloud, {
        fault: inPhase(`killed at each step: ${scenario.name} (${calls} calls)`, phase),
        rounds: kills.length - missed.length,
        sightings: await Promise.all(sightings),
        random,
      })
      // Appends and attempts depend on the pace of the moment: some need not come again.
      expect(missed.length, missed.join()).toBeLessThanOrEqual(Math.ceil(kills.length / 4))
    })
  })
})
