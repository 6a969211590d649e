/** The result of the drills as a table, at the end of the run, whichever processes they ran in. */
import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { Verdict } from './judge.ts'

export interface Line extends Omit<Verdict, 'violations'> {
  fault: string
  rounds: number
  inFlight: number
}

const RESULTS = 'TURNKEEP_DRILL_RESULTS'
const columns = [
  ['fault', 'fault'],
  ['rounds', 'rounds'],
  ['in flight', 'inFlight'],
  ['promised', 'promised'],
  ['kept', 'kept'],
  ['interrupted', 'interrupted'],
  ['duplicates', 'duplicates'],
  ['lost', 'lost'],
] as const

export function enter(line: Line): void {
  const file = process.env[RESULTS]
  if (file) appendFileSync(file, `${JSON.stringify(line)}\n`)
}

/** Before the workers start; the returned function prints what they have entered. */
export function openTable(): () => void {
  const file = join(mkdtempSync(join(tmpdir(), 'turnkeep-drills-')), 'results.jsonl')
  process.env[RESULTS] = file
  return () => {
    if (existsSync(file)) console.log(format(readFileSync(file, 'utf8').trim().split('\n')))
    rmSync(dirname(file), { recursive: true, force: true })
  }
}

function format(lines: readonly string[]): string {
  const entries = lines.map((line): Line => JSON.parse(line))
  const cells = [
    columns.map(([title]) => title as string),
    ...entries.map((entry) => columns.map(([, key]) => String(entry[key]))),
  ]
  const widths = columns.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)))
  const rows = cells.map(
    (row) =>
      `| ${row
        .map((cell, column) =>
          column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
        )
        .join(' | ')} |`,
  )
  const rule = `|${widths.map((width, column) => (column === 0 ? `${'-'.repeat(width + 2)}` : `${'-'.repeat(width + 1)}:`)).join('|')}|`
  return `\n${[rows[0], rule, ...rows.slice(1)].join('\n')}\n`
}
