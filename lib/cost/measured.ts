import { globSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Consumption } from './consumption.ts'

const root = resolve(import.meta.dirname, '../..')

/** What bench/turn measured last. */
export function newestMeasurement(): Consumption {
  const newest = globSync('bench/results/turn-*.json', { cwd: root }).sort().at(-1)
  if (newest === undefined) throw new Error('There is no bench/results/turn-*.json: run npm run bench:turn.')
  return readMeasurement(join(root, newest))
}

export const readMeasurement = (file: string): Consumption => JSON.parse(readFileSync(file, 'utf8'))
