/** What a statement can come to other than its result. */
import pg from 'pg'

type Kind =
  | 'refused' // the statement is at fault, and has a SQLSTATE
  | 'timeout'
  | 'unavailable' // the server is, so the same statement may work later

export class PostgresError extends Error {
  readonly kind: Kind
  readonly sqlState: string | undefined
  readonly hint: string | undefined
  readonly position: string | undefined

  // Without the server's error as its cause: the detail of that one quotes rows.
  constructor(kind: Kind, message: string, source: Partial<pg.DatabaseError> = {}) {
    super(message)
    this.name = 'PostgresError'
    this.kind = kind
    this.sqlState = source.code
    this.hint = source.hint
    this.position = source.position
  }
}

export const NO_SUCH_ROLE = '22023'
const LOGIN_REFUSED = /^28/
export const PERMISSION_DENIED = '42501'
const CANCELLED = '57014'
export const NOT_SUPPORTED = { code: '0A000' }
export const OPEN_TRANSACTION = { code: '25001' }
// Connections that break or cannot be had, and an operator's intervention; 08P01 is a statement without its values.
const UNAVAILABLE = /^(08(?!P01)|53300|57P)/

/** Whatever was thrown, as one of these. */
export function describe(error: unknown): PostgresError {
  if (error instanceof PostgresError) return error
  if (!(error instanceof pg.DatabaseError)) return unavailable(error as Error)
  const { code = '', message } = error
  if (code === CANCELLED) return new PostgresError('timeout', message, error)
  return new PostgresError(UNAVAILABLE.test(code) ? 'unavailable' : 'refused', message, error)
}

/** What a server says to a login that it does not know is what it says to a wrong password. */
export const loginRefused = (name: string) =>
  new PostgresError('refused', `password authentication failed for user "${name}"`, { code: '28P01' })

export const unavailable = (error: Error) => new PostgresError('unavailable', error.message)

export const isLoginRefused = (error: Error): error is pg.DatabaseError =>
  error instanceof pg.DatabaseError && LOGIN_REFUSED.test(error.code ?? '')
