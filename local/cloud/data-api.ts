/**
 * A stand-in for the RDS Data API of an Aurora cluster: the unmodified RDSDataClient talks to it, and the limits of
 * the real one bite here too. What is not documented follows what was observed of Aurora Serverless v2, with the
 * source beside it. Left out, because the product makes one call an operation: transactions and batches. It does
 * not look at signatures. Nothing is logged but faults of its own, and those without the call.
 */

import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { ExecuteStatementRequest } from '@aws-sdk/client-rds-data'
import { splitStatements } from '../../lambdas/services/sql-text.ts'
import { denial, type Gate, needsOfStatement, refused } from './calls.ts'
import { DataApiError, databaseError, invalid } from './data-api-error.ts'
import { bindParameters } from './data-api-parameters.ts'
import { encodeRows, isSupported, jdbcTypeOf, MAX_RESPONSE_BYTES, unsupported } from './data-api-results.ts'
import type { Login, Postgres, Statement } from './postgres.ts'
import { PostgresError } from './postgres-error.ts'

/** "The maximum size of the HTTP request is 4 MiB", headers and JSON notation included. */
export const MAX_REQUEST_BYTES = 4 * 1024 * 1024
/** Of `sql`, in the service model. */
export const MAX_SQL_CHARACTERS = 65_536
/** "By default, a call times out if it's not finished processing within 45 seconds." */
export const STATEMENT_TIMEOUT_MS = 45_000
/** Longer than the SDK keeps an idle socket, so that no request meets one that is being closed. */
const KEEP_ALIVE_MS = 120_000
const CLOSE_IDLE_MS = 20

export { MAX_RESPONSE_BYTES, MAX_ROW_BYTES } from './data-api-results.ts'

export interface DataApiOptions {
  postgres: Postgres
  /** What a secret holds, by its ARN. Nothing is kept: a secret that has changed is used at once. */
  secretOf(arn: string): string | undefined
  port?: number
  host?: '127.0.0.1'
  gate?: Gate | undefined
  /** Shorter in tests. */
  statementTimeoutMs?: number
}

export async function startDataApi(
  options: DataApiOptions,
): Promise<{ url: string; close(): Promise<void> }> {
  const { gate, port = 0, host = '127.0.0.1', statementTimeoutMs = STATEMENT_TIMEOUT_MS } = options
  const server = createServer({ keepAliveTimeout: KEEP_ALIVE_MS }, async (request, response) => {
    try {
      const call = await readCall(request)
      const need = gate && refused(gate, request.headers, () => needsOfStatement(call))
      if (need) throw new DataApiError('AccessDeniedException', denial(need))
      send(response, 200, await executeStatement(options, call, statementTimeoutMs))
    } catch (error) {
      sendError(response, error instanceof PostgresError ? databaseError(error) : error)
    }
  })
  server.listen(port, host)
  await once(server, 'listening')
  return {
    url: `http://${host}:${(server.address() as AddressInfo).port}`,
    async close() {
      server.close()
      // A connection whose call ends from now on would be kept for its whole time.
      const closing = setInterval(() => server.closeIdleConnections(), CLOSE_IDLE_MS)
      await once(server, 'close')
      clearInterval(closing)
    },
  }
}

async function readCall(request: IncomingMessage): Promise<ExecuteStatementRequest> {
  // To the end also where the rest is thrown away: a client that is still sending does not read an answer.
  const chunks: Buffer[] = []
  let bytes = request.rawHeaders.join().length
  for await (const chunk of request) {
    bytes += chunk.length
    if (bytes <= MAX_REQUEST_BYTES) chunks.push(chunk)
  }
  if (request.method !== 'POST' || request.url !== '/Execute')
    throw new DataApiError('UnknownOperationException', `Only ExecuteStatement is here, not ${request.url}`)
  if (bytes > MAX_REQUEST_BYTES) throw invalid(`The request is larger than ${MAX_REQUEST_BYTES} bytes`)
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'))
  } catch {
    throw invalid('The request body is not JSON')
  }
}

async function executeStatement(
  { postgres, secretOf }: DataApiOptions,
  call: ExecuteStatementRequest,
  timeoutMs: number,
): Promise<Buffer> {
  const sql = check(call)
  const login = loginOf(secretOf, call.secretArn ?? '')
  const { text, values } = bindParameters(sql, call.parameters ?? [])
  const run = (limitMs: number) => postgres.query(login, text, values, { timeoutMs: limitMs })
  const statement = await (call.continueAfterTimeout ? answerWithin(timeoutMs, run(0)) : run(timeoutMs))
  await checkColumnTypes(postgres, login, statement)
  const members = encodeRows(statement, call)
  const returnsRows = statement.fields.length > 0
  members.push(`"numberOfRecordsUpdated":${returnsRows ? 0 : statement.rowCount}`)
  if (!returnsRows) members.push('"generatedFields":[]') // never filled by Aurora PostgreSQL, which has RETURNING
  if (returnsRows && call.includeResultMetadata && call.formatRecordsAs !== 'JSON')
    members.push(`"columnMetadata":${JSON.stringify(await describeColumns(postgres, login, statement))}`)
  const body = Buffer.from(`{${members.join(',')}}`)
  if (body.length > MAX_RESPONSE_BYTES)
    throw unsupported('Database returned more than the allowed response size limit')
  return body
}

/** The SQL of a call that is right in itself. There is one database, so any name of one will do. */
function check({ resourceArn, secretArn, sql, schema, transactionId }: ExecuteStatementRequest): string {
  const missing = Object.entries({ resourceArn, secretArn, sql }).find(([, text]) => typeof text !== 'string')
  if (missing) throw invalid(`Value at '${missing[0]}' failed to satisfy constraint: Member must not be null`)
  if (!/^arn:aws[\w-]*:rds:[\w-]+:\d{12}:cluster:./.test(resourceArn ?? ''))
    throw invalid(`The resource ARN is not that of a cluster: ${resourceArn}`)
  if (schema !== undefined) throw invalid("Schema parameter isn't supported")
  if (transactionId !== undefined)
    throw new DataApiError('TransactionNotFoundException', `Transaction ${transactionId} is not found`)
  if (sql === undefined || sql.length > MAX_SQL_CHARACTERS)
    throw invalid(
      `Value at 'sql' failed to satisfy constraint: Member must have length at most ${MAX_SQL_CHARACTERS}`,
    )
  if (sql.includes('\0')) throw invalid('A NUL character cannot be sent to Postgres')
  const statements = splitStatements(sql)
  if (statements.length > 1) throw invalid("Multistatements aren't supported.")
  return statements[0] ?? ''
}

/**
 * "The secret provided wasn't found" is a SecretsErrorException; AccessDenied would be about the caller's rights to it.
 * One that holds no login is an InvalidSecretException.
 */
function loginOf(secretOf: DataApiOptions['secretOf'], secretArn: string): Login {
  const text = secretOf(secretArn)
  if (text === undefined) throw new DataApiError('SecretsErrorException', `There is no secret ${secretArn}`)
  try {
    const { username, password } = JSON.parse(text)
    if (typeof username === 'string' && typeof password === 'string') return { username, password }
  } catch {}
  throw new DataApiError('InvalidSecretException', "The Secrets Manager secret value isn't valid")
}

/** With continueAfterTimeout the caller hears of the timeout, and the statement does not. */
function answerWithin(timeoutMs: number, running: Promise<Statement>): Promise<Statement> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new PostgresError('timeout', 'Still running')), timeoutMs)
    running.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}

async function checkColumnTypes(postgres: Postgres, login: Login, { fields }: Statement) {
  const refused = fields.find(({ typeOid }) => !isSupported(typeOid))
  if (!refused) return
  const names = await typeNames(postgres, login, [refused.typeOid])
  throw unsupported(`The result contains the unsupported data type ${names.get(refused.typeOid)}`)
}

/** What Postgres tells with the rows. Tables, precision and nullability would cost more calls and are unknown (2). */
async function describeColumns(postgres: Postgres, login: Login, { fields }: Statement) {
  const names = await typeNames(
    postgres,
    login,
    fields.map(({ typeOid }) => typeOid),
  )
  return fields.map(({ name, typeOid }) => ({
    name,
    label: name,
    type: jdbcTypeOf(typeOid),
    typeName: names.get(typeOid),
    schemaName: '',
    tableName: '',
    nullable: 2,
    precision: 0,
    scale: 0,
    arrayBaseColumnType: 0,
    isAutoIncrement: false,
    isCaseSensitive: false,
    isCurrency: false,
    isSigned: false,
  }))
}

async function typeNames(
  postgres: Postgres,
  login: Login,
  oids: number[],
): Promise<Map<number, string | null>> {
  const sql = 'select oid::text, typname::text from pg_catalog.pg_type where oid = any ($1::oid[])'
  const { rows } = await postgres.query(login, sql, [`{${oids.join()}}`])
  return new Map(rows.map(([oid, name]) => [Number(oid), name ?? null]))
}

function sendError(response: ServerResponse, error: unknown) {
  if (error instanceof DataApiError)
    return send(response, error.status, Buffer.from(JSON.stringify({ message: error.message })), error.name)
  if (response.destroyed) return // the client went away while it was sending
  console.error('The local Data API failed', error)
  send(response, 500, Buffer.from('{}'), 'InternalServerErrorException')
}

function send(response: ServerResponse, status: number, body: Buffer, errorType?: string) {
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': body.length,
    'x-amzn-requestid': randomUUID(),
    ...(errorType ? { 'x-amzn-errortype': errorType } : {}),
  })
  response.end(body)
}
