import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { nameOf, type Step, track } from './aim.ts'
import { type DrillCloud, isLong, startDrillCloud } from './drill-cloud.ts'
import { moments } from './fault-proxy.ts'
import { type Scenario, STEP_WITHIN_MS, scenarios } from './kill-scenarios.ts'
import { conclude } from './report.ts'
import type { Sighting } from './returning-client.ts'

let cloud: DrillCloud
beforeAll(async () => {
  cloud = await startDrillCloud({ name: 'steps' })
})
afterAll(() => cloud.close())

/** What an undisturbed run consists of: a call that is new in the product is killed without being listed here. */
async function stepsOf({ name, question: ask, play }: Scenario): Promise<Step[]> {
  const question = ask(`${name}, undisturbed`)
  const tracked = track(cloud, question)
  await play(cloud, tracked, question, () => undefined)
  const saved = () => tracked.steps.some(({ operation }) => operation === 'save_messages')
  await expect.poll(saved, { timeout: STEP_WITHIN_MS * 2 }).toBe(true)
  await cloud.drained()
  tracked.end()
  return tracked.steps
}

describe.each(scenarios)('a kill at each step: $name', (scenario) => {
  test('loses nothing', { timeout: 600_000 }, async () => {
    const steps = await stepsOf(scenario)
    // The short form takes one moment of each step, another one for its neighbours.
    const kills = steps.flatMap((step, index) =>
      moments.filter((_, at) => isLong || at === index % 3).map((moment) => ({ ...step, moment })),
    )
    const sightings: Promise<Sighting>[] = []
    const missed: string[] = []
    for (const [round, kill] of kills.entries()) {
      const question = scenario.question(`${scenario.name}, ${round}: ${nameOf(kill)} ${kill.moment}`)
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
      else missed.push(`${nameOf(kill)} ${kill.moment}`)
    }
    cloud.proxy.decide = () => 'pass'
    await cloud.cloud.runtimeApi.invoke('maintain', '{}')
    await conclude(cloud, {
      fault: `killed at each step: ${scenario.name} (${steps.length} steps)`,
      rounds: kills.length - missed.length,
      sightings: await Promise.all(sightings),
    })
    // Appends depend on the pace of the moment; one or the other need not come.
    expect(missed.filter((step) => !/append_events|unfinished_turns/.test(step))).toEqual([])
  })
})
