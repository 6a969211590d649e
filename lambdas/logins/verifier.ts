/** What Postgres stores in place of a password: it proves the password, and is none. */
import { createHash, createHmac, pbkdf2, randomBytes } from 'node:crypto'
import { promisify } from 'node:util'

/** Postgres' own. A random password of 32 bytes gains nothing from more. */
const ITERATIONS = 4_096
const SALT_BYTES = 16
const KEY_BYTES = 32

/** SCRAM-SHA-256 (RFC 5802 and 7677), as `alter role … password` takes it: computed here, so that no SQL holds the password. */
export async function verifierOf(password: string): Promise<string> {
  const salt = randomBytes(SALT_BYTES)
  const salted = await promisify(pbkdf2)(password, salt, ITERATIONS, KEY_BYTES, 'sha256')
  const key = (name: string) => createHmac('sha256', salted).update(name).digest()
  const storedKey = createHash('sha256').update(key('Client Key')).digest('base64')
  const serverKey = key('Server Key').toString('base64')
  return `SCRAM-SHA-256$${ITERATIONS}:${salt.toString('base64')}$${storedKey}:${serverKey}`
}
