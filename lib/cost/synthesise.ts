import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { App } from 'aws-cdk-lib'
import { addEnvironment } from '../environment.ts'
import { resources } from '../resources.ts'
import type { Settings } from '../settings.ts'
import type { Template } from './template.ts'

const root = resolve(import.meta.dirname, '../..')

/**
 * The templates that `cdk synth` makes of these settings. What is uploaded costs nothing to speak of, so empty files
 * stand for the functions and the page.
 */
export async function synthesise(name: string, settings: Settings): Promise<Template[]> {
  const directory = await mkdtemp(join(tmpdir(), 'turnkeep-cost-'))
  try {
    const { context } = JSON.parse(await readFile(join(root, 'cdk.json'), 'utf8'))
    const app = new App({ outdir: join(directory, 'out'), context })
    const functions = Object.fromEntries(
      await Promise.all(
        Object.keys(resources.functions).map(async (one) => [
          one,
          { directory: await emptyFiles(join(directory, one), ['index.mjs']) },
        ]),
      ),
    )
    const page = await emptyFiles(join(directory, 'page'), ['index.html', 'assets/main.js'])
    addEnvironment(app, name, settings, { functions, page })
    return app.synth().stacks.map(({ template }) => template)
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

async function emptyFiles(directory: string, names: string[]): Promise<string> {
  for (const name of names) {
    const file = join(directory, name)
    await mkdir(resolve(file, '..'), { recursive: true })
    await writeFile(file, '')
  }
  return directory
}
