/**
 * The little of Postgres' wire protocol that sharing one backend needs.
 * https://www.postgresql.org/docs/current/protocol-message-formats.html
 */
import { firstWord, splitStatements } from '../../lambdas/services/sql-text.ts'

/** What a message is for the queue: most stand for themselves, those of a pipeline wait for the Sync after them. */
export type MessageKind = 'startup' | 'terminate' | 'part' | 'flush' | 'whole'

const KINDS: Record<string, MessageKind> = {
  '\0': 'startup', // it has no type, so this is the first byte of its length
  X: 'terminate',
  P: 'part', // Parse, Bind, Describe, Execute, Close
  B: 'part',
  D: 'part',
  E: 'part',
  C: 'part',
  H: 'flush',
}
const typeOf = (message: Uint8Array) => String.fromCharCode(message[0] ?? 0)
export const kindOf = (message: Uint8Array): MessageKind => KINDS[typeOf(message)] ?? 'whole'

const HEADER_BYTES = 5 // type and length
const STARTUP_HEADER_BYTES = 8 // length and version

export function userOf(startup: Uint8Array): string {
  const fields = Buffer.from(startup).toString('utf8', STARTUP_HEADER_BYTES).split('\0')
  return fields[fields.indexOf('user') + 1] ?? ''
}

// PGlite answers COPY FROM STDIN by waiting, for ever, for data that its input does not hold.
const COPY_REFUSAL = `do $$ begin
  raise feature_not_supported using message = 'COPY FROM STDIN does not work with the embedded Postgres';
end $$`
const startsCopy = (sql: string) =>
  splitStatements(sql).some(
    (statement) => firstWord(statement) === 'copy' && /\bfrom\s+stdin\b/i.test(statement),
  )

/** The message itself; or, where it would start a COPY FROM STDIN, one that fails with an explanation. */
export function withoutCopy(message: Uint8Array): Uint8Array {
  const type = typeOf(message)
  if (type !== 'Q' && type !== 'P') return message
  const [first = '', second = ''] = Buffer.from(message).toString('utf8', HEADER_BYTES).split('\0', 2)
  if (type === 'Q') return startsCopy(first) ? encode('Q', `${COPY_REFUSAL}\0`) : message
  const noParameters = '\0\0'
  return startsCopy(second) ? encode('P', `${first}\0${COPY_REFUSAL}\0${noParameters}`) : message
}

export const SYNC: Uint8Array = encode('S', '')

/** Fields by their one-letter codes: S and V severity, C SQLSTATE, M message. */
export function errorResponse(fields: Record<string, string>): Buffer {
  const body = Object.entries(fields).map(([code, text]) => `${code}${text}\0`)
  return encode('E', `${body.join('')}\0`)
}

function encode(type: string, body: string): Buffer {
  const header = Buffer.alloc(HEADER_BYTES, type)
  header.writeInt32BE(Buffer.byteLength(body) + HEADER_BYTES - 1, 1)
  return Buffer.concat([header, Buffer.from(body)])
}
