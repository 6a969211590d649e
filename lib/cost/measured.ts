import { globSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Consumption } from './consumption.ts'

const root = resolve(import.meta.dirname, '../..')

export type Phase = 1 | 2
/** Names of what `bench:turn` writes. */
export const MEASUREMENTS: Record<Phase, string> = { 1: 'turn', 2: 'cached-turn' }

/** What bench/turn measured last in this phase. */
export function newestMeasurement(phase: Phase = 1): Consumption {
  const pattern = `bench/results/${MEASUREMENTS[phase]}-*.json`
  const newest = globSync(pattern, { cwd: root }).sort().at(-1)
  if (newest === undefined)
    throw new Error(`There is no ${pattern}: run npm run bench:turn -- --phase ${phase}.`)
  return readMeasurement(join(root, newest))
}

export const readMeasurement = (file: string): Consumption => JSON.parse(readFileSync(file, 'utf8'))
