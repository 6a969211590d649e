/** Where and of what a measurement was made. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, loadavg, totalmem } from 'node:os'
import { join } from 'node:path'
import { rounded } from './figures.ts'

export interface Circumstances {
  /** ISO 8601. */
  at: string
  /** With `+` where there were changes on top of it. */
  commit: string
  node: string
  machine: string
}

const GIB = 2 ** 30

export const circumstances = (): Circumstances => ({
  at: new Date().toISOString(),
  commit: commit(),
  node: process.version,
  machine: `${availableParallelism()} x ${cpus()[0]?.model.trim() || process.arch}, ${Math.round(totalmem() / GIB)} GiB, ${process.platform}`,
})

/** Of the minute that has passed: what others did on this machine. */
export const loadNow = (): number => rounded(loadavg()[0] ?? 0, 1)

function commit(): string {
  try {
    const git = (...args: string[]) =>
      execFileSync('git', args, { encoding: 'utf8', cwd: join(import.meta.dirname, '..') })
    const changed =
      git('status', '--porcelain', '--', 'lambdas', 'lib', ':!lib/cost', 'local', 'sql').trim() !== ''
    return `${git('rev-parse', '--short', 'HEAD').trim()}${changed ? '+' : ''}`
  } catch {
    return 'unknown'
  }
}

const RESULTS = join(import.meta.dirname, 'results')

/** bench/results/<name>-<date>.json, or <date>.json for what has no name. */
export const resultFile = (name: string, { at }: Circumstances): string =>
  join(RESULTS, `${[name, at.slice(0, 10)].filter(Boolean).join('-')}.json`)

/** Writes the result and returns its path. A second run of a day replaces the first. */
export function keepResult<Result extends { measured: Circumstances }>(name: string, result: Result): string {
  mkdirSync(RESULTS, { recursive: true })
  const file = resultFile(name, result.measured)
  writeFileSync(file, `${JSON.stringify(result, undefined, 2)}\n`)
  return file
}
