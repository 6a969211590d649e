/** From the Data API's named and typed parameters to Postgres' numbered ones. */
import type { Field, SqlParameter, TypeHint } from '@aws-sdk/client-rds-data'
import { bindNamed } from '../../lambdas/services/sql-text.ts'
import { invalid } from './data-api-error.ts'

export type Bound = { text: string; values: (string | null)[] }

/**
 * As on Aurora a parameter has a type of its own, so a string does not fit a uuid column without a cast or a hint.
 * Only NULL without a hint takes its type from where it stands. Every parameter must be used, every name given.
 */
export function bindParameters(sql: string, parameters: SqlParameter[]): Bound {
  const given = new Map(parameters.map((parameter) => [parameter.name, encode(parameter)]))
  if (given.size < parameters.length) throw invalid('Two parameters have the same name')
  const numbers = new Map<string, number>()
  const values: (string | null)[] = []
  const text = bindNamed(sql, (name) => {
    const parameter = given.get(name)
    if (!parameter) throw invalid(`Cannot find parameter: ${name}`)
    if (!numbers.has(name)) numbers.set(name, values.push(parameter.value))
    const placeholder = `$${numbers.get(name)}`
    return parameter.type ? `(${placeholder}::${parameter.type})` : placeholder
  })
  const unused = [...given.keys()].find((name) => name === undefined || !numbers.has(name))
  if (unused !== undefined) throw invalid(`The statement has no parameter: ${unused}`)
  return { text, values }
}

type Encoded = { type: string | undefined; value: string | null }

// Formats as the API reference of SqlParameter gives them. A time zone or a T is refused there as well: "Parse Error
// for TimeStamp: input contains invalid characters" (sbalmt/ez4 pull request 64, against Aurora PostgreSQL 17).
const HINTS: Record<TypeHint, { type: string; format: RegExp }> = {
  DATE: { type: 'date', format: /^\d{4}-\d{2}-\d{2}$/ },
  DECIMAL: { type: 'numeric', format: /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i },
  JSON: { type: 'json', format: /./ },
  TIME: { type: 'time', format: /^\d{2}:\d{2}:\d{2}(\.\d+)?$/ },
  TIMESTAMP: { type: 'timestamp', format: /^\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}(\.\d+)?$/ },
  UUID: { type: 'uuid', format: /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i },
}

function encode({ name, value, typeHint }: SqlParameter): Encoded {
  if (!name) throw invalid('A parameter has no name')
  const hint = typeHint === undefined ? undefined : HINTS[typeHint]
  if (typeHint !== undefined && !hint) throw invalid(`Parameter "${name}" has an unknown type hint`)
  const [kind, content, ...others] = Object.entries(value ?? {}).flat()
  if (kind === undefined || others.length > 0)
    throw invalid(`Parameter "${name}" has value with no field set`)
  if (kind === 'isNull' && content === true) return { type: hint?.type, value: null }
  if (hint && !(kind === 'stringValue' && hint.format.test(content)))
    throw invalid(`Parse Error for ${typeHint}: parameter "${name}" is not in its format`)
  const encoder = ENCODERS[kind as keyof Field]
  if (!encoder?.accepts(content)) throw invalid(`Parameter "${name}" has an unsupported value in ${kind}`)
  return { type: hint?.type ?? encoder.type, value: encoder.text(content as never) }
}

interface Encoder {
  type: string
  accepts(content: unknown): boolean
  text(content: never): string
}

// Not arrayValue: "Array parameters are not supported", says the service model.
const ENCODERS: { [Kind in keyof Field]?: Encoder } = {
  booleanValue: { type: 'boolean', accepts: (content) => typeof content === 'boolean', text: String },
  longValue: {
    type: 'bigint',
    accepts: Number.isInteger,
    text: (content: number) => BigInt(content).toString(),
  },
  doubleValue: {
    type: 'double precision',
    // JSON has no other way to write these three.
    accepts: (content) => typeof content === 'number' || /^(NaN|-?Infinity)$/.test(String(content)),
    text: String,
  },
  stringValue: {
    type: 'text',
    accepts: (content) => typeof content === 'string',
    text: (content: string) => content,
  },
  blobValue: {
    type: 'bytea',
    accepts: (content) => typeof content === 'string',
    text: (content: string) => `\\x${Buffer.from(content, 'base64').toString('hex')}`,
  },
}
