/** From Postgres' cells, which are text, to the Data API's records: one field object a cell, or one JSON string. */
import type { ExecuteStatementRequest } from '@aws-sdk/client-rds-data'
import { DataApiError } from './data-api-error.ts'
import type { Statement } from './postgres.ts'

/** "64 KB per row in the result set returned by the database", whatever form it leaves in. */
export const MAX_ROW_BYTES = 64 * 1024
/** "If the call returns more than 1 MiB of response data, the call is terminated." Counted as JSON: the strict way. */
export const MAX_RESPONSE_BYTES = 1024 * 1024

type ResultOptions = Pick<ExecuteStatementRequest, 'formatRecordsAs' | 'resultSetOptions'>

type Kind = 'boolean' | 'long' | 'double' | 'decimal' | 'string' | 'instant' | 'blob'
type Column = { kind: Kind; isArray: boolean }

/** Codes of java.sql.Types, which is what `type` in the column's metadata holds. */
type Scalar = { kind: Kind; jdbcType: number; arrayOid?: number }
const JDBC_OTHER = 1111
const JDBC_ARRAY = 2003

// The types that the Aurora user guide lists for Aurora PostgreSQL ("Data API operations reference"), by oid, and
// timestamptz, which it leaves out and which works. Anything else of Postgres' own is refused as it is there:
// regtype and "char" are known (typeorm-aurora-data-api-driver issue 164); of void, interval and oid it is assumed.
const SCALARS: Record<number, Scalar> = {
  16: { kind: 'boolean', jdbcType: -7, arrayOid: 1000 }, // bool
  17: { kind: 'blob', jdbcType: -2 }, // bytea
  19: { kind: 'string', jdbcType: 12, arrayOid: 1003 }, // name
  20: { kind: 'long', jdbcType: -5, arrayOid: 1016 }, // int8
  21: { kind: 'long', jdbcType: 5, arrayOid: 1005 }, // int2
  23: { kind: 'long', jdbcType: 4, arrayOid: 1007 }, // int4
  25: { kind: 'string', jdbcType: 12, arrayOid: 1009 }, // text
  114: { kind: 'string', jdbcType: JDBC_OTHER, arrayOid: 199 }, // json
  650: { kind: 'string', jdbcType: JDBC_OTHER }, // cidr
  700: { kind: 'double', jdbcType: 7, arrayOid: 1021 }, // float4
  701: { kind: 'double', jdbcType: 8, arrayOid: 1022 }, // float8
  869: { kind: 'string', jdbcType: JDBC_OTHER }, // inet
  1042: { kind: 'string', jdbcType: 1, arrayOid: 1014 }, // bpchar
  1043: { kind: 'string', jdbcType: 12, arrayOid: 1015 }, // varchar
  1082: { kind: 'string', jdbcType: 91, arrayOid: 1182 }, // date
  1083: { kind: 'string', jdbcType: 92, arrayOid: 1183 }, // time
  1114: { kind: 'string', jdbcType: 93, arrayOid: 1115 }, // timestamp
  1184: { kind: 'instant', jdbcType: 93 }, // timestamptz
  1700: { kind: 'decimal', jdbcType: 2, arrayOid: 1231 }, // numeric
  2950: { kind: 'string', jdbcType: JDBC_OTHER, arrayOid: 2951 }, // uuid
  3802: { kind: 'string', jdbcType: JDBC_OTHER }, // jsonb
}
const ELEMENTS = new Map(Object.values(SCALARS).map((scalar) => [scalar.arrayOid, scalar]))
/** Types that somebody made, among them enums and pgvector's, which the guide lists too; they are given as strings. */
const FIRST_USER_OID = 16_384

export function jdbcTypeOf(oid: number): number {
  return SCALARS[oid]?.jdbcType ?? (ELEMENTS.has(oid) ? JDBC_ARRAY : JDBC_OTHER)
}

export const isSupported = (oid: number) => oid in SCALARS || ELEMENTS.has(oid) || oid >= FIRST_USER_OID

function columnOf(oid: number, { resultSetOptions = {} }: ResultOptions): Column {
  const element = ELEMENTS.get(oid)
  const kind = (SCALARS[oid] ?? element)?.kind ?? 'string'
  const isArray = element !== undefined
  if (kind === 'long' && resultSetOptions.longReturnType === 'STRING') return { kind: 'string', isArray }
  if (kind === 'decimal' && resultSetOptions.decimalReturnType !== 'DOUBLE_OR_LONG')
    return { kind: 'string', isArray }
  return { kind, isArray }
}

/**
 * The members of the response that hold the rows, as JSON text. `formatRecordsAs: 'JSON'` "only applies to SELECT
 * statements and is ignored for other types", says the service model: INSERT … RETURNING gives records. Every type of
 * column must be supported.
 */
export function encodeRows({ fields, rows, command }: Statement, options: ResultOptions): string[] {
  if (fields.length === 0) return []
  const columns = fields.map((field) => columnOf(field.typeOid, options))
  checkRowSizes(rows, columns)
  if (options.formatRecordsAs !== 'JSON' || /^(INSERT|UPDATE|DELETE|MERGE)$/.test(command)) {
    const records = rows.map(
      (row) => `[${columns.map((column, index) => field(column, row[index])).join(',')}]`,
    )
    return [`"records":[${records.join(',')}]`]
  }
  const keys = fields.map(({ name }) => JSON.stringify(name))
  if (new Set(keys).size < keys.length)
    throw unsupported('The result contains columns of the same name, which JSON cannot hold')
  const names = keys.map((key) => `${within(key)}:`)
  const objects = rows.map(
    (row) => `{${columns.map((column, index) => names[index] + valueWithin(column, row[index])).join(',')}}`,
  )
  return [`"formattedRecords":"[${objects.join(',')}]"`]
}

/** JSON as it stands within a string of JSON. */
const within = (json: string) => JSON.stringify(json).slice(1, -1)

/** Base64 has nothing to escape, and is most of what is large. */
const valueWithin = (column: Column, cell: string | null | undefined): string =>
  column.kind === 'blob' && !column.isArray && typeof cell === 'string'
    ? `\\"${base64(cell)}\\"`
    : within(value(column, cell))

function checkRowSizes(rows: Statement['rows'], columns: Column[]) {
  for (const row of rows) {
    let bytes = 0
    for (const [index, cell] of row.entries()) {
      if (cell !== null)
        bytes += columns[index]?.kind === 'blob' ? cell.length / 2 - 1 : Buffer.byteLength(cell)
    }
    if (bytes > MAX_ROW_BYTES)
      throw unsupported(
        `Database returned more than the allowed row size limit of ${MAX_ROW_BYTES / 1024} KB`,
      )
  }
}

export const unsupported = (message: string) => new DataApiError('UnsupportedResultException', message)

/** A cell as plain JSON: the user guide's table for the JSON format. */
function value({ kind, isArray }: Column, cell: string | null | undefined): string {
  if (cell === null || cell === undefined) return 'null'
  return isArray
    ? `[${elementsOf(cell).map((element) => value({ kind, isArray: false }, element))}]`
    : SCALAR_JSON[kind](cell)
}

function field(column: Column, cell: string | null | undefined): string {
  if (cell === null || cell === undefined) return '{"isNull":true}'
  const name = FIELD_NAMES[column.kind === 'decimal' ? decimalKind(cell) : column.kind]
  const member = `"${name}${column.isArray ? 's' : ''}":${value(column, cell)}`
  return column.isArray ? `{"arrayValue":{${member}}}` : `{${member}}`
}

const FIELD_NAMES: Record<Kind, string> = {
  boolean: 'booleanValue',
  long: 'longValue',
  double: 'doubleValue',
  decimal: 'doubleValue',
  string: 'stringValue',
  instant: 'stringValue',
  blob: 'blobValue',
}

const decimalKind = (cell: string): Kind => (/^-?\d+$/.test(cell) ? 'long' : 'double')
// Numbers stay digits, since a JavaScript number would round the large ones; NaN and the infinities are strings.
const number = (cell: string) => (/^-?\d/.test(cell) ? cell : JSON.stringify(cell))

const SCALAR_JSON: Record<Kind, (cell: string) => string> = {
  boolean: (cell) => String(cell === 't'),
  long: number,
  double: number,
  decimal: number,
  string: (cell) => JSON.stringify(cell),
  // "The Data API always returns TIMESTAMPTZ in UTC", and without saying so (drizzle-orm pull request 4918).
  instant: (cell) => JSON.stringify(cell.replace(/\+00$/, '')),
  blob: (cell) => `"${base64(cell)}"`,
}

const base64 = (cell: string): string => Buffer.from(cell.slice('\\x'.length), 'hex').toString('base64')

/** Elements of an array's text: `{a,"b,\"c",NULL}`. Those of a second dimension are refused, as on Aurora. */
function elementsOf(cell: string): (string | null)[] {
  const body = cell.slice(cell.indexOf('{') + 1, -1) // what may stand before it is bounds: [0:1]={…}
  if (body.startsWith('{')) throw unsupported('The result contains a multidimensional array')
  return Array.from(body.matchAll(/"((?:[^"\\]|\\.)*)"|([^,]+)/gs), ([, quoted, bare]) => {
    if (quoted !== undefined) return quoted.replace(/\\(.)/gs, '$1')
    return bare === 'NULL' ? null : (bare ?? '')
  })
}
