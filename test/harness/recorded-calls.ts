/** What the functions asked of the cloud, in all test files of a run: each leaves what it saw for those that follow. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { afterAll, expect } from 'vitest'
import type { Call } from '../../local/cloud/calls.ts'
import { runDirectory } from './run.ts'

const ROOT = resolve(import.meta.dirname, '../..')

export interface RecordedFile {
  file: string
  calls: Call[]
}

const seen = new Map<string, Call>()

/** As a gate that lets everything pass. */
export function record(call: Call): boolean {
  seen.set(JSON.stringify(call), call)
  return true
}

const directory = (run: string): string => join(run, 'calls')

/** To be called before each test file: notes, when it is over, that it took part, and with what. */
export function leaveCalls(): void {
  const run = runDirectory()
  if (run === undefined) return
  afterAll(() => {
    const file = relative(ROOT, expect.getState().testPath ?? '')
    const recorded: RecordedFile = { file, calls: [...seen.values()] }
    seen.clear() // The next file of this process leaves its own.
    mkdirSync(directory(run), { recursive: true })
    writeFileSync(join(directory(run), `${file.replaceAll('/', '-')}.json`), JSON.stringify(recorded))
  })
}

export function readCalls(): RecordedFile[] {
  const run = directory(runDirectory() ?? '')
  if (!existsSync(run)) return []
  return readdirSync(run).map((name) => JSON.parse(readFileSync(join(run, name), 'utf8')))
}
