/**
 * `npm run bench`: everything that is measured against a limit or a plain alternative, one section after the other, in less
 * than ten minutes; `--only save,load` runs some. Starts Postgres and Redis itself, and says what is left out where it
 * cannot. Writes bench/results/<date>.json, in which a section that ran again has taken its own place.
 */
import { existsSync, readFileSync } from 'node:fs'
import { relative } from 'node:path'
import { parseArgs } from 'node:util'
import { SHARED_SERVER } from '../test/harness/postgres-server.ts'
import { whyNoRedis } from '../test/harness/redis.ts'
import { type Circumstances, circumstances, keepResult, loadNow, resultFile } from './machine.ts'
import { findPostgres } from './postgres.ts'
import { packageVersion, redisVersion } from './versions.ts'

interface Section {
  title: string
  /** Absent: it runs without, and says itself what it leaves out. */
  needsPostgres?: boolean
  needsRedis?: boolean
  /** Prints its figures and returns them. Without Postgres the URL is ''. */
  run(postgresUrl: string): Promise<object>
}

/** What is in the file beside a section's own figures. */
interface Ran extends Circumstances {
  /** `none`: was not there. */
  versions: Record<'postgres' | 'redis' | 'openai', string>
  /** Of the minute before: what others did on this machine, which the figures are to be read with. */
  loadBefore: number
  seconds: number
  figures: object
}

/** Loaded when it runs: none of them waits for what another one needs. */
async function printed<Figures extends object>(
  measure: Promise<Figures>,
  print: (figures: Figures) => void,
): Promise<Figures> {
  const figures = await measure
  print(figures)
  return figures
}

const sections: Record<string, Section> = {
  stream: {
    title: 'Streaming, beside the model itself, a byte pipe and a plain relay',
    run: async () => {
      const { measureStreaming } = await import('./stream/section.ts')
      const { printStreaming } = await import('./stream/print.ts')
      return printed(measureStreaming({ quick: true }), printStreaming)
    },
  },
  save: {
    title: 'Saving',
    needsPostgres: true,
    run: async () => {
      const { measureSave, printSave } = await import('./save/section.ts')
      return printed(measureSave(), printSave)
    },
  },
  append: {
    title: 'Appending',
    needsPostgres: true,
    run: async () => {
      const { measureAppend, printAppend } = await import('./append/section.ts')
      return printed(measureAppend(), printAppend)
    },
  },
  load: {
    title: 'Loading',
    needsPostgres: true,
    run: async () => {
      const { measureLoad, printLoad } = await import('./load/section.ts')
      return printed(measureLoad(), printLoad)
    },
  },
  archive: {
    title: 'Into the archive and back',
    needsPostgres: true,
    run: async (serverUrl) => {
      const { measureArchive, printArchive } = await import('./archive/section.ts')
      return printed(measureArchive({ serverUrl, sizes: [30_000], restore: true, bare: true }), printArchive)
    },
  },
  lookup: {
    title: 'The hot store, both phases',
    needsPostgres: true,
    needsRedis: true,
    run: async () => {
      const { measureLookup, printLookup } = await import('./lookup/section.ts')
      return printed(measureLookup({ rounds: 30 }), printLookup)
    },
  },
  start: {
    title: 'Start-up',
    run: async () => {
      const { measureStart, printStart } = await import('./start/section.ts')
      return printed(measureStart({ rounds: 5 }), printStart)
    },
  },
}

const { values } = parseArgs({ options: { only: { type: 'string', default: Object.keys(sections).join() } } })
const wanted = values.only.split(',')
const unknown = wanted.filter((name) => !(name in sections))
if (unknown.length > 0)
  throw new Error(`There is no section ${unknown.join(', ')}: ${Object.keys(sections).join(', ')}.`)

const postgres = await findPostgres()
const noPostgres = 'reason' in postgres ? `no Postgres (${postgres.reason})` : undefined
const serverUrl = 'server' in postgres ? postgres.server.url : ''
if (serverUrl) process.env[SHARED_SERVER] = serverUrl
const versions = {
  postgres: 'version' in postgres ? postgres.version : 'none',
  redis: redisVersion(),
  openai: packageVersion('openai'),
}
const failed: string[] = []
try {
  const measured = circumstances()
  console.log(
    `${measured.machine}, Node ${measured.node}, ${measured.commit}, Postgres ${versions.postgres}, Redis ${versions.redis}, openai ${versions.openai}`,
  )
  const results: Record<string, Ran> = {}
  for (const name of wanted) {
    const result = await runSection(name)
    if (result) results[name] = result
  }
  if (Object.keys(results).length > 0) {
    const file = keepResult('', { measured, sections: { ...earlierToday(), ...results } })
    console.log(`\nWritten to ${relative(process.cwd(), file)}`)
  }
} finally {
  if ('server' in postgres) await postgres.server.close()
}
if (failed.length > 0) {
  console.log(`Failed: ${failed.join(', ')}`)
  process.exitCode = 1
}

/** Undefined where it was left out or failed: the others are measured, all the same. */
async function runSection(name: string): Promise<Ran | undefined> {
  const { title, needsPostgres, needsRedis, run } = sections[name] as Section
  const loadBefore = loadNow()
  console.log(`\n## ${title} (load before: ${loadBefore})\n`)
  const missing = [needsPostgres && noPostgres, needsRedis && whyNoRedis].filter(Boolean)
  if (missing.length > 0) {
    console.log(`Left out: ${missing.join(', ')}`)
    return undefined
  }
  const startedAt = performance.now()
  const at = circumstances()
  try {
    const figures = await run(serverUrl)
    const seconds = Math.round((performance.now() - startedAt) / 1_000)
    console.log(`\n${seconds} s`)
    return { ...at, versions, loadBefore, seconds, figures }
  } catch (error) {
    console.error(error)
    failed.push(name)
    return undefined
  }
}

function earlierToday(): Record<string, Ran> {
  const file = resultFile('', circumstances())
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')).sections : {}
}
