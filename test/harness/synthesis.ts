/** The cloud assembly of an environment, made once in a run of tests: what `cdk synth` writes, without its CLI. */
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { COMPILE_CACHE } from '../../local/compile-cache.ts'
import { madeOnce } from './made-once.ts'
import { runDirectory } from './run.ts'

const ROOT = resolve(import.meta.dirname, '../..')

/** The directory with the templates and the bundles. Only to be read: others read it too. */
export async function synthesise(environment = 'dev'): Promise<string> {
  const run = runDirectory() ?? mkdtempSync(join(tmpdir(), 'turnkeep-synthesis-'))
  return madeOnce(run, `cdk.out.${environment}`, (unfinished) => make(environment, unfinished))
}

async function make(environment: string, directory: string): Promise<void> {
  const { context } = JSON.parse(readFileSync(join(ROOT, 'cdk.json'), 'utf8'))
  const env = {
    PATH: process.env.PATH,
    ...COMPILE_CACHE,
    // As the CLI names it: relative, to wherever it was called.
    CDK_OUTDIR: basename(directory),
    CDK_CONTEXT_JSON: JSON.stringify({ ...context, env: environment }),
  }
  await promisify(execFile)(process.execPath, [join(ROOT, 'bin/turnkeep.ts')], {
    cwd: dirname(directory),
    env,
  })
}
