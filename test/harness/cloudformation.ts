/**
 * CloudFormation's functions, as far as our templates use them. What is not known here, or names something that is
 * not there, throws: a proof must not rest on a value that was guessed.
 */
export interface Template {
  Resources: Record<string, Resource>
  Outputs?: Record<string, { Value: unknown; Export?: { Name: unknown } }>
  Parameters?: Record<string, { Type: string; Default?: unknown }>
}

export interface Resource {
  Type: string
  Properties?: Record<string, unknown>
  Metadata?: Record<string, unknown>
  DependsOn?: string | string[]
}

/** What a reference stands for. Each throws where there is no such thing. */
export interface Scope {
  /** A resource, a parameter, or a pseudo parameter such as AWS::Region. */
  ref(name: string): unknown
  attribute(resource: string, attribute: string): unknown
  /** What a stack exports, in its region and account. */
  imported(name: string): unknown
  output(stack: string, name: string): unknown
}

type Args = [argument: never, scope: Scope]

const functions: Record<string, (...args: Args) => unknown> = {
  Ref: (name: string, scope) => scope.ref(name),
  'Fn::GetAtt': (argument: string | [string, unknown], scope) => {
    const [resource = '', ...attribute] =
      typeof argument === 'string' ? argument.split('.') : (argument as string[])
    return scope.attribute(resource, text(resolve(attribute.join('.'), scope)))
  },
  'Fn::ImportValue': (name: unknown, scope) => scope.imported(text(resolve(name, scope))),
  'Fn::GetStackOutput': ({ StackName, OutputName }: { StackName: unknown; OutputName: unknown }, scope) =>
    scope.output(text(resolve(StackName, scope)), text(resolve(OutputName, scope))),
  'Fn::Join': ([separator, parts]: [string, unknown], scope) =>
    list(resolve(parts, scope)).map(text).join(separator),
  'Fn::Split': ([separator, whole]: [string, unknown], scope) => text(resolve(whole, scope)).split(separator),
  'Fn::Select': ([index, from]: [number | string, unknown], scope) => {
    const items = list(resolve(from, scope))
    const item = items[Number(index)]
    if (item === undefined) throw new Error(`Fn::Select: there is no ${index} in ${JSON.stringify(items)}`)
    return item
  },
  'Fn::Sub': (argument: string | [string, Record<string, unknown>], scope) => {
    const [pattern, values = {}] = typeof argument === 'string' ? [argument] : argument
    return pattern.replace(/\$\{(!?)([^}]+)\}/g, (whole, literal: string, name: string) => {
      if (literal) return whole.replace('!', '')
      if (name in values) return text(resolve(values[name], scope))
      const [resource = '', ...attribute] = name.split('.')
      return text(attribute.length > 0 ? scope.attribute(resource, attribute.join('.')) : scope.ref(name))
    })
  },
}

/** The value with everything in it resolved. */
export function resolve(value: unknown, scope: Scope): unknown {
  if (Array.isArray(value)) return value.map((item) => resolve(item, scope))
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value)
  const [name, argument] = entries[0] ?? ['']
  if (entries.length === 1 && (name === 'Ref' || name.startsWith('Fn::') || name === 'Condition')) {
    const known = functions[name]
    if (!known) throw new Error(`${name} is not known here: ${JSON.stringify(value)}`)
    return known(argument as never, scope)
  }
  return Object.fromEntries(entries.map(([key, item]) => [key, resolve(item, scope)]))
}

/** As CloudFormation writes numbers and truths where text is wanted. */
function text(value: unknown): string {
  if (typeof value === 'string') return value
  if (typeof value === 'number' || typeof value === 'boolean') return String(value)
  throw new Error(`${JSON.stringify(value)} is no text`)
}

function list(value: unknown): unknown[] {
  if (Array.isArray(value)) return value
  throw new Error(`${JSON.stringify(value)} is no list`)
}
