import { printable } from './text.ts'

/** The command was called wrongly: it ends with 2, and says how it is called. */
export class UsageError extends Error {}

/** It could not be done, and the message says all: it ends with 1. */
export class Failure extends Error {}

/** What it is to work on is not named, contradicts itself or has nothing of the kind: it ends with 2. One line says all. */
export class WrongEnvironment extends Error {}

/** None were found, or what was found (as a session of single sign-on) has ended. */
const CREDENTIALS = new Set(['CredentialsProviderError', 'TokenProviderError'])
export const lacksCredentials = (error: unknown): boolean =>
  error instanceof Error && CREDENTIALS.has(error.name)

const LONGEST_REASON = 300

/**
 * Why AWS gave no answer, as one line. Only the first line of what AWS says: after it, a refused signature quotes the
 * request with its session token.
 */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown'
  if (error instanceof Failure) return error.message
  const { code } = error as NodeJS.ErrnoException
  if (code !== undefined && /^(ECONN|ENOTFOUND|EAI_|EHOST|ENET)/.test(code))
    return `nothing answers (${code})`
  const [first = ''] = error.message.split('\n')
  const said = first === error.name || first === '' ? error.name : `${error.name}: ${first}`
  return printable(said).slice(0, LONGEST_REASON)
}
