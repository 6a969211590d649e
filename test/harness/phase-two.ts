/** The cloud assembly of dev in phase 2: other templates, the same bundles. */
import { mkdtempSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { App } from 'aws-cdk-lib'
import { addEnvironment } from '../../lib/environment.ts'
import { resources } from '../../lib/resources.ts'
import { checkSettings, settingsFor } from '../../lib/settings.ts'
import { madeOnce } from './made-once.ts'
import { runDirectory } from './run.ts'
import { synthesise } from './synthesis.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const CACHE = { maxGigabytes: 1, maxEcpuPerSecond: 1_000, snapshotDays: 0 }

/** The directory with the templates, made once in a run of tests. Only to be read. */
export async function synthesisePhaseTwo(): Promise<string> {
  const phaseOne = await synthesise()
  const run = runDirectory() ?? mkdtempSync(join(tmpdir(), 'turnkeep-synthesis-'))
  return madeOnce(run, 'cdk.out.phase-two', async (outdir) => make(phaseOne, outdir))
}

function make(phaseOne: string, outdir: string): void {
  const directories = Object.keys(resources.functions).map((name) => [
    name,
    { directory: join(phaseOne, 'functions', name) },
  ])
  const settings = checkSettings('dev', { ...settingsFor('dev'), phase: 2, cache: CACHE })
  const { context } = JSON.parse(readFileSync(join(ROOT, 'cdk.json'), 'utf8'))
  const app = new App({ context, outdir })
  addEnvironment(app, 'dev', settings, {
    functions: Object.fromEntries(directories),
    page: join(phaseOne, 'page'),
  })
  app.synth()
}
