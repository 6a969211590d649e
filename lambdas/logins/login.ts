/** The database logins of the functions, as the app secret holds one: `{"username": …, "password": …}`. */
import { randomBytes } from 'node:crypto'

/** Made by sql/0004_logins.sql. */
const LOGINS = ['turnkeep_app_1', 'turnkeep_app_2'] as const

export interface Login {
  username: (typeof LOGINS)[number]
  password: string
}

const PASSWORD_BYTES = 32

/** What a client sends is normalised (SASLprep) where it is not plain ASCII, and here it is not. */
const PLAIN = /^[\x21-\x7e]{16,}$/

/** Refuses, without quoting it, a text that is no login of the functions or has a password that is none. */
export function readLogin(text: string): Login {
  const login = parse(text)
  if (!LOGINS.some((name) => name === login?.username))
    throw new Error(`The app secret must be JSON with a "username" that is one of ${LOGINS.join(', ')}.`)
  if (typeof login?.password !== 'string' || !PLAIN.test(login.password))
    throw new Error(
      'The app secret must have a "password" of at least 16 printable ASCII characters, none a space.',
    )
  return login as Login
}

/** The secret's text with the other login and a new password; whatever else it holds stays. */
export function withNextLogin(text: string): string {
  const { username } = readLogin(text)
  return JSON.stringify({
    ...parse(text),
    username: LOGINS.find((name) => name !== username),
    password: randomBytes(PASSWORD_BYTES).toString('base64url'),
  })
}

function parse(text: string): Partial<Login> | undefined {
  try {
    return JSON.parse(text) ?? undefined
  } catch {
    return undefined
  }
}
