/** The cloud assembly of an environment, made once in a run of tests: what `cdk synth` writes, without its CLI. */
import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { runDirectory } from './run.ts'

const ROOT = resolve(import.meta.dirname, '../..')

/** The directory with the templates and the bundles. Only to be read: others read it too. */
export async function synthesise(environment = 'dev'): Promise<string> {
  const run = runDirectory() ?? mkdtempSync(join(tmpdir(), 'turnkeep-synthesis-'))
  const shared = join(run, `cdk.out.${environment}`)
  const lock = `${shared}.lock`
  while (!existsSync(shared)) {
    if (!isMine(lock)) await sleep(SOMEBODY_ELSE_IS_AT_IT_MS)
    else
      try {
        if (!existsSync(shared)) await make(environment, shared)
      } finally {
        rmSync(lock, { recursive: true }) // after a failure the next one tries, and is told too
      }
  }
  return shared
}

const SOMEBODY_ELSE_IS_AT_IT_MS = 100

function isMine(lock: string): boolean {
  try {
    mkdirSync(lock)
    return true
  } catch {
    return false
  }
}

async function make(environment: string, directory: string): Promise<void> {
  const unfinished = `${directory}.unfinished`
  const { context } = JSON.parse(readFileSync(join(ROOT, 'cdk.json'), 'utf8'))
  const env = {
    PATH: process.env.PATH,
    CDK_OUTDIR: unfinished,
    CDK_CONTEXT_JSON: JSON.stringify({ ...context, env: environment }),
  }
  await promisify(execFile)(process.execPath, ['bin/turnkeep.ts'], { cwd: ROOT, env })
  renameSync(unfinished, directory)
}
