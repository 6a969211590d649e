import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { describeStep, type Step, track } from './aim.ts'
import { type DrillCloud, isLong, startDrillCloud } from './drill-cloud.ts'
import { moments } from './fault-proxy.ts'
import { type Scenario, STEP_WITHIN_MS, scenarios } from './kill-scenarios.ts'
import { conclude } from './report.ts'
import type { Sighting } from './returning-client.ts'
import { settled } from './stored.ts'

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
  await settled(cloud)
  tracked.end()
  return tracked.steps
}

describe.each(scenarios)('a kill at each step: $name', (scenario) => {
  test('loses nothing', { timeout: 900_000 }, async () => {
    const steps = await stepsOf(scenario)
    const calls = steps.filter(({ moment }) => moment === 'before').length
    // The short form takes one moment of each call, another one for its neighbours.
    const kills = steps.filter(({ moment }, index) => isLong || moments.indexOf(moment) === index % 3)
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
    await cloud.cloud.runtimeApi.invoke('maintain', '{}')
    await conclude(cloud, {
      fault: `killed at each step: ${scenario.name} (${calls} calls)`,
      rounds: kills.length - missed.length,
      sightings: await Promise.all(sightings),
    })
    // Appends depend on the pace of the moment; one or the other need not come.
    expect(missed.filter((step) => !/append_events|unfinished_turns/.test(step))).toEqual([])
  })
})
