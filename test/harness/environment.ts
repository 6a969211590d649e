/**
 * The stacks of an environment, synthesised in this process, for facts about templates. Empty files stand for the
 * bundles and the page; `synthesise` makes the real ones.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { App } from 'aws-cdk-lib'
import type { CloudFormationStackArtifact } from 'aws-cdk-lib/cx-api'
import type { DataStack } from '../../lib/data-stack.ts'
import { addEnvironment } from '../../lib/environment.ts'
import { resources } from '../../lib/resources.ts'
import type { ServiceStack } from '../../lib/service-stack.ts'
import { checkSettings, type SettingsInput, settingsFor } from '../../lib/settings.ts'
import type { Resource, Template } from './cloudformation.ts'

const ROOT = resolve(import.meta.dirname, '../..')

export interface Environment {
  data: Template
  service: Template
  /** Characters of the templates as they are uploaded. */
  sizes: Record<'data' | 'service', number>
  protectedFromDeletion: Record<'data' | 'service', boolean>
}

type Change = (stacks: { data: DataStack; service: ServiceStack }) => void

/** Throws the report of the rules where one is broken. `change` is made before the synthesis. */
export function makeEnvironment(
  name: string,
  changes?: Partial<SettingsInput>,
  change?: Change,
): Environment {
  const written = settingsFor(name)
  const settings = changes ? checkSettings(name, { ...written, ...changes }) : written
  const sources = mkdtempSync(join(tmpdir(), 'turnkeep-environment-'))
  const { context } = JSON.parse(readFileSync(join(ROOT, 'cdk.json'), 'utf8'))
  // Without a directory to write to, it takes one of its own, and throws what it would otherwise print.
  const app = new App({ context })
  try {
    const stacks = addEnvironment(app, name, settings, emptySources(sources))
    change?.(stacks)
    const assembly = app.synth()
    const made = (part: 'data' | 'service') => assembly.getStackByName(`turnkeep-${name}-${part}`)
    const both = <Value>(of: (stack: CloudFormationStackArtifact) => Value) => ({
      data: of(made('data')),
      service: of(made('service')),
    })
    return {
      ...both(({ template }): Template => template),
      sizes: both(({ templateFullPath }) => readFileSync(templateFullPath).length),
      protectedFromDeletion: both(({ terminationProtection }) => terminationProtection === true),
    }
  } finally {
    for (const directory of [sources, app.outdir]) rmSync(directory, { recursive: true, force: true })
  }
}

function emptySources(directory: string) {
  const files = [
    ...Object.keys(resources.functions).map((name) => `${name}/index.mjs`),
    'page/index.html',
    'page/assets/main.js',
  ]
  for (const file of files) {
    mkdirSync(dirname(join(directory, file)), { recursive: true })
    writeFileSync(join(directory, file), '')
  }
  const functions = Object.keys(resources.functions).map((name) => [
    name,
    { directory: join(directory, name) },
  ])
  return { functions: Object.fromEntries(functions), page: join(directory, 'page') }
}

export interface Found {
  id: string
  resource: Resource & { DeletionPolicy?: string; UpdateReplacePolicy?: string }
  properties: Record<string, never>
}

/** Resources of a type, in the order of the template. */
export const ofType = ({ Resources }: Template, type: string): Found[] =>
  Object.entries(Resources)
    .filter(([, { Type }]) => Type === type)
    .map(([id, resource]) => ({
      id,
      resource,
      properties: (resource.Properties ?? {}) as Record<string, never>,
    }))
