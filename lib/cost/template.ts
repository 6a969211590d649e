/** A synthesised template, as far as its cost depends on it. */

export interface Resource {
  Type: string
  // biome-ignore lint/suspicious/noExplicitAny: CloudFormation's shapes; what is read is looked at where it is read.
  Properties?: Record<string, any>
}
export interface Template {
  Resources: Record<string, Resource>
}
export interface Found {
  id: string
  properties: NonNullable<Resource['Properties']>
}

export const resourcesOf = (templates: readonly Template[]): (Resource & { id: string })[] =>
  templates.flatMap(({ Resources }) =>
    Object.entries(Resources).map(([id, resource]) => ({ id, ...resource })),
  )

export const ofType = (templates: readonly Template[], type: string): Found[] =>
  resourcesOf(templates)
    .filter(({ Type }) => Type === type)
    .map(({ id, Properties = {} }) => ({ id, properties: Properties }))

/** One of lib/resources.ts. Its logical id begins with its name, whatever the rest is. */
export function functionNamed(templates: readonly Template[], name: string): Found {
  const found = ofType(templates, 'AWS::Lambda::Function').filter(({ id }) =>
    id.startsWith(`${name}Function`),
  )
  const [only] = found
  if (only === undefined || found.length > 1)
    throw new Error(`The template has ${found.length} functions ${name}.`)
  return only
}

/** The other way round; undefined for CDK's own functions, which run while a deployment does. */
export const nameOfFunction = (id: string): string | undefined =>
  /^([a-z]\w*)Function[0-9A-F]{8}$/.exec(id)?.[1]

/** Megabytes; Lambda's default where none is set. */
export const memoryOf = ({ properties }: Found): number => Number(properties.MemorySize ?? 128)

export const gbSeconds = (megabytes: number, ms: number): number => (megabytes / 1_024) * (ms / 1_000)

/** How many months' lines a function's log group holds. */
export function monthsOfLogs(templates: readonly Template[], name: string): number {
  const group = ofType(templates, 'AWS::Logs::LogGroup').find(({ id }) => id.startsWith(`${name}Log`))
  if (group === undefined) throw new Error(`The template has no log group of ${name}.`)
  return Number(group.properties.RetentionInDays) / 30
}
