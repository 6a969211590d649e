import { globSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Consumption } from './consumption.ts'

const root = resolve(import.meta.dirname, '../..')

export type Phase = 1 | 2
/** Names of what `bench:turn` writes. */
export const MEASUREMENTS: Record<Phase, string> = { 1: 'turn', 2: 'cached-turn' }

export const readMeasurement = (file: string): Consumption => JSON.parse(readFileSync(file, 'utf8'))

/** Results of a name, the newest first. */
const resultsOf = (pattern: string): string[] =>
  globSync(`bench/results/${pattern}.json`, { cwd: root })
    .sort()
    .reverse()
    .map((file) => join(root, file))

/** What bench/turn measured last in this phase. */
export function newestMeasurement(phase: Phase = 1): Consumption {
  const pattern = `${MEASUREMENTS[phase]}-*`
  const [newest] = resultsOf(pattern)
  if (newest === undefined)
    throw new Error(`There is no bench/results/${pattern}: run npm run bench:turn -- --phase ${phase}.`)
  return readMeasurement(newest)
}

/** Messages a second from the queue to rows, by all runs of persist together: `npm run bench`, section save. */
export function savedASecond(): number {
  type Whole = { sections: { save?: { figures: { queue: { messagesPerSecond: number } } } } }
  for (const file of resultsOf('[0-9]*')) {
    const { sections }: Whole = JSON.parse(readFileSync(file, 'utf8'))
    if (sections.save) return sections.save.figures.queue.messagesPerSecond
  }
  throw new Error('No result of npm run bench has a section save.')
}

/** Messages a second that leave for the archive, of the most that were measured: `npm run bench:archive`. */
export function archivedASecond(): number {
  const [newest] = resultsOf('archive-[0-9]*')
  if (newest === undefined) throw new Error('There is no result of npm run bench:archive.')
  const { sizes }: { sizes: { messages: number; messagesPerSecond: number }[] } = JSON.parse(
    readFileSync(newest, 'utf8'),
  )
  const [largest] = sizes.toSorted((one, other) => other.messages - one.messages)
  if (largest === undefined) throw new Error(`${newest} has no sizes.`)
  return largest.messagesPerSecond
}
