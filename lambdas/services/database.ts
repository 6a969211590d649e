/**
 * Postgres through the RDS Data API. One call is one HTTP request is one transaction: an operation is a function in
 * the database that sets the tenant for its own transaction first (see sql/operations).
 */

import { setTimeout as sleep } from 'node:timers/promises'
import {
  ExecuteStatementCommand,
  type Field,
  RDSDataClient,
  type SqlParameter,
} from '@aws-sdk/client-rds-data'
import type { Tenant } from '../protocol/callers.ts'
import { CodedError } from '../protocol/errors.ts'
import type { Measure } from '../protocol/metrics.ts'
import { openAwsCall } from './aws-call.ts'
import { Sha256 } from './sha256.ts'

/**
 * An argument by its type in Postgres. Objects travel as JSON text: the Data API has no array parameters. A string for jsonb is
 * such a text.
 */
export type Argument =
  | { text: string | null }
  | { uuid: string | null }
  | { jsonb: object | string | null }
  | { integer: number | null }
  | { boolean: boolean | null }
  | { timestamptz: string | null }
  | { 'double precision': number }

export interface Database {
  /**
   * Runs `turnkeep.<operation>`, which takes the tenant first, and returns its rows. Refused for itself:
   * RefusedStatement. Unreachable: CodedError `unavailable`, after the retries that waking from a pause needs.
   */
  callFor<Row>(tenant: Tenant, operation: string, args: readonly Argument[]): Promise<Row[]>
  /** The same for an operation that finds the tenants in its arguments. */
  call<Row>(operation: string, args: readonly Argument[]): Promise<Row[]>
  /** One statement as it is, for migrations. */
  execute<Row>(statement: string, values?: Record<string, string>): Promise<Row[]>
}

/**
 * Postgres itself said no: trying again gives the same answer. Its words are kept only where they are about the
 * statement (class 42: names and syntax); elsewhere they may quote a value, and values do not belong in logs.
 */
export class RefusedStatement extends Error {
  readonly sqlState: string
  constructor(sqlState: string, words: string) {
    super(`Postgres refused the statement (${sqlState})${sqlState.startsWith('42') ? `: ${words}` : ''}`)
    this.name = 'RefusedStatement'
    this.sqlState = sqlState
  }
}

/** An Aurora that was paused takes about 15 s to answer, 30 s after a day; longer is an outage. */
const WAKING_BUDGET_MS = 20_000
const WAKING_RETRY_MS = 500
/** The statement itself may take 45 s; a connection that cannot be made is known much sooner. */
const CONNECT_TIMEOUT_MS = 3_000
const REQUEST_TIMEOUT_MS = 50_000
const ATTEMPTS = 3

/**
 * For what is better left undone than done late, or twice: a paused database is woken and not waited for, and what may
 * have been done is not sent again.
 */
export const IMPATIENT = { wakingBudgetMs: 0, requestTimeoutMs: 3_000, attempts: 1 }

const field = (value: string | number | boolean | object | null): Field => {
  if (value === null) return { isNull: true }
  if (typeof value === 'string') return { stringValue: value }
  if (typeof value === 'boolean') return { booleanValue: value }
  if (typeof value === 'number')
    return Number.isInteger(value) ? { longValue: value } : { doubleValue: value }
  return { stringValue: JSON.stringify(value) }
}

// Classes of SQLSTATE that describe the server's state and not the statement: connection, resources, intervention; a
// login that is refused, because its password is changing hands.
const TRANSIENT_SQL_STATES = /^(08|28|40|53|57|58)/

/** The API's errors that say nothing about the request; others with a client's fault are ours to mend. */
const UNAVAILABLE = new Set([
  'DatabaseResumingException',
  'DatabaseUnavailableException',
  'InternalServerErrorException',
  'SecretsErrorException',
  'ServiceUnavailableError',
  'StatementTimeoutException',
  'ThrottlingException',
])

function classify(error: unknown): Error {
  const { name = '', message = '', $fault } = error as Error & { $fault?: 'client' | 'server' }
  const sqlState = /SQLState: (\w{5})/.exec(message)?.[1]
  if (sqlState !== undefined && !TRANSIENT_SQL_STATES.test(sqlState))
    return new RefusedStatement(sqlState, message)
  // Without a fault there was no answer at all.
  if (sqlState !== undefined || $fault !== 'client' || UNAVAILABLE.has(name))
    return new CodedError('unavailable', 'The database cannot be reached right now.', { cause: error })
  return new Error(`the Data API refused the request: ${name}`)
}

/**
 * A transaction that Postgres gave up for another one's sake, as a deadlock or what could not be serialised: nothing of it
 * was done, and it may be sent again at once.
 */
const isRolledBack = (error: unknown): boolean => /SQLState: 40/.test((error as Error).message)

/** Whether an `unavailable` means that Postgres does not accept the login. */
export const isLoginRefused = (error: unknown): boolean =>
  error instanceof CodedError && /SQLState: 28/.test((error.cause as Error | undefined)?.message ?? '')

export interface DatabaseOptions {
  databaseClusterArn: string
  databaseSecretArn: string
  databaseName: string
  /** Milliseconds to wait for a paused database. */
  wakingBudgetMs?: number
  /** For one attempt, in milliseconds. */
  requestTimeoutMs?: number
  attempts?: number
  measure?: Measure
}

export function openDatabase(options: DatabaseOptions): Database {
  const {
    wakingBudgetMs = WAKING_BUDGET_MS,
    requestTimeoutMs = REQUEST_TIMEOUT_MS,
    attempts = ATTEMPTS,
    measure = () => undefined,
  } = options
  const client = new RDSDataClient({
    maxAttempts: attempts,
    sha256: Sha256,
    requestHandler: {
      connectionTimeout: CONNECT_TIMEOUT_MS,
      requestTimeout: requestTimeoutMs,
      throwOnRequestTimeout: true, // else it is only warned of
    },
  })
  const place = {
    resourceArn: options.databaseClusterArn,
    secretArn: options.databaseSecretArn,
    database: options.databaseName,
  }
  const executeStatement = openAwsCall(client, () => new ExecuteStatementCommand({ ...place, sql: '' }))

  async function send<Row>(sql: string, parameters: SqlParameter[]): Promise<Row[]> {
    const givenUpAt = Date.now() + wakingBudgetMs
    for (let attempt = 1; ; attempt += 1) {
      const calledAt = performance.now()
      try {
        const { formattedRecords } = await executeStatement({
          ...place,
          sql,
          parameters,
          formatRecordsAs: 'JSON',
        })
        measure('DataApiTime', performance.now() - calledAt)
        return formattedRecords ? JSON.parse(formattedRecords) : []
      } catch (error) {
        if (isRolledBack(error) && attempt < attempts) continue
        // A client fault to the SDK, so it does not retry: the database is being woken by this very request.
        if ((error as Error).name !== 'DatabaseResumingException' || Date.now() > givenUpAt) {
          const failure = classify(error)
          if (failure instanceof RefusedStatement) measure('DataApiTime', performance.now() - calledAt)
          else measure('DataApiErrors', 1)
          throw failure
        }
        await sleep(WAKING_RETRY_MS)
      }
    }
  }

  function call<Row>(operation: string, args: readonly Argument[]): Promise<Row[]> {
    const typed = args.flatMap((argument) => Object.entries(argument))
    return send(
      `select * from turnkeep.${operation}(${typed.map(([type], index) => `:p${index}::${type}`).join(', ')})`,
      typed.map(([, value], index) => ({ name: `p${index}`, value: field(value) })),
    )
  }

  return {
    call,
    callFor: (tenant, operation, args) =>
      call(operation, [{ text: tenant.companyId }, { text: tenant.platform }, ...args]),
    execute: (statement, values = {}) =>
      send(
        statement,
        Object.entries(values).map(([name, value]) => ({ name, value: field(value) })),
      ),
  }
}

/** The function's role as the SDK finds it, for what is signed without an SDK client. */
export function openRole() {
  const { config } = new RDSDataClient({})
  return { region: () => config.region(), credentials: () => config.credentials() }
}
