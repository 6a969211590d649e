/** What `cdk synth` writes: templates, and folders with what they upload. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Resource, Template } from './cloudformation.ts'

export interface Stack {
  name: string
  template: Template
  /** Of each resource, by its logical id: where it stands in the tree of constructs, without the stack's name. */
  paths: Record<string, string>
  /** Absolute, by the name of the object that it is uploaded as. */
  assets: Record<string, string>
}

export interface Placed extends Resource {
  stack: Stack
  id: string
  path: string
  properties: Record<string, unknown>
}

interface Artifact {
  type: string
  properties: { templateFile?: string; file?: string; stackName?: string }
  additionalMetadataFile?: string
  dependencies?: string[]
}

export function readAssembly(directory: string): Stack[] {
  const read = (file: string) => JSON.parse(readFileSync(join(directory, file), 'utf8'))
  const artifacts: Record<string, Artifact> = read('manifest.json').artifacts
  return Object.entries(artifacts)
    .filter(([, { type }]) => type === 'aws:cloudformation:stack')
    .map(([name, { properties, additionalMetadataFile, dependencies = [] }]) => {
      const manifests = dependencies.flatMap((dependency) => artifacts[dependency]?.properties.file ?? [])
      return {
        name: properties.stackName ?? name,
        template: read(properties.templateFile ?? ''),
        paths: pathsOf(read(additionalMetadataFile ?? '')),
        assets: Object.assign({}, ...manifests.map((file) => assetsOf(directory, read(file)))),
      }
    })
}

type Metadata = Record<string, { type: string; data: unknown }[]>

/** From `/stack/Construct/Resource` to `Construct`: the last one is CDK's own word for what a construct makes. */
function pathsOf(metadata: Metadata): Record<string, string> {
  return Object.fromEntries(
    Object.entries(metadata).flatMap(([path, entries]) =>
      entries
        .filter(({ type }) => type === 'aws:cdk:logicalId')
        .map(({ data }) => [String(data), path.replace(/^\/[^/]+\//, '').replace(/\/Resource$/, '')]),
    ),
  )
}

type AssetManifest = {
  files: Record<string, { source: { path: string }; destinations: Record<string, { objectKey: string }> }>
}

function assetsOf(directory: string, { files }: AssetManifest): Record<string, string> {
  return Object.fromEntries(
    Object.values(files).flatMap(({ source, destinations }) =>
      Object.values(destinations).map(({ objectKey }) => [objectKey, join(directory, source.path)]),
    ),
  )
}

export function resourcesOfType(stacks: readonly Stack[], ...types: string[]): Placed[] {
  return stacks.flatMap((stack) =>
    Object.entries(stack.template.Resources)
      .filter(([, { Type }]) => types.includes(Type))
      .map(([id, resource]) => ({
        ...resource,
        stack,
        id,
        path: stack.paths[id] ?? id,
        properties: resource.Properties ?? {},
      })),
  )
}
