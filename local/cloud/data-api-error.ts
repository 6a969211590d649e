/**
 * The errors of the RDS Data API in front of Aurora Serverless v2, by the names that reach the SDK's caller.
 *
 * Names and statuses are those that @aws-sdk/client-rds-data declares. ValidationException it does not, but it is
 * what v2 answers to a call that is wrong in itself (drizzle-orm issue 4252); the service model says of
 * BadRequestException that "this error only appears in calls from Aurora Serverless v1 databases".
 */
import type { PostgresError } from './postgres-error.ts'

const STATUS = {
  AccessDeniedException: 403,
  DatabaseErrorException: 400,
  DatabaseUnavailableException: 504,
  InternalServerErrorException: 500,
  InvalidSecretException: 400,
  SecretsErrorException: 400,
  StatementTimeoutException: 400,
  TransactionNotFoundException: 404,
  UnknownOperationException: 404,
  UnsupportedResultException: 400,
  ValidationException: 400,
}

export class DataApiError extends Error {
  readonly status: number
  constructor(name: keyof typeof STATUS, message: string) {
    super(message)
    this.name = name
    this.status = STATUS[name]
  }
}

export const invalid = (message: string) => new DataApiError('ValidationException', message)

export function databaseError(error: PostgresError): DataApiError {
  if (error.kind === 'unavailable') return new DataApiError('DatabaseUnavailableException', error.message)
  if (error.kind === 'timeout') return new DataApiError('StatementTimeoutException', 'Request timed out')
  return new DataApiError('DatabaseErrorException', postgresMessage(error))
}

// "ERROR: operator does not exist: uuid = text; Hint: …; Position: 54; SQLState: 42883" (drizzle-orm issue 2583).
// The detail, which quotes rows, is left out there too (cloud-utils/aurora-data-api issue 53).
function postgresMessage({ message, hint, position, sqlState }: PostgresError): string {
  const parts = [
    `ERROR: ${message}`,
    hint && `Hint: ${hint}`,
    position && `Position: ${position}`,
    sqlState && `SQLState: ${sqlState}`,
  ]
  return parts.filter(Boolean).join('; ')
}
