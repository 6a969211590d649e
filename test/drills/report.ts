/** The end of every drill: wait, compare, enter the result into the table, fail with everything that was found. */
import { expect } from 'vitest'
import type { Turnkeep } from '../harness/turnkeep.ts'
import { judge, type Leniency, type Verdict } from './judge.ts'
import type { Random } from './random.ts'
import type { Sighting } from './returning-client.ts'
import { type Stored, settled } from './stored.ts'
import { enter } from './table.ts'

export interface Drilled {
  fault: string
  rounds: number
  sightings: readonly Sighting[]
  random?: Random
  leniency?: Leniency
}

export async function conclude(
  turnkeep: Turnkeep,
  { fault, rounds, sightings, random, leniency }: Drilled,
): Promise<{ verdict: Verdict; stored: Stored }> {
  const stored = await settled(turnkeep)
  const verdict = judge(sightings, stored, leniency)
  const { violations, ...counts } = verdict
  enter({
    fault,
    rounds,
    inFlight: sightings.filter(({ question }) => question !== undefined).length,
    ...counts,
  })
  expect(violations, random && `DRILL_SEED=${random.seed}`).toEqual([])
  expect(counts).toMatchObject({ kept: verdict.promised, duplicates: 0, lost: 0 })
  return { verdict, stored }
}
