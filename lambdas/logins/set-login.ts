import type { Database } from '../services/database.ts'
import type { VersionedSecret } from '../services/secrets.ts'
import { readLogin } from './login.ts'
import { verifierOf } from './verifier.ts'

export interface SetLoginServices {
  /** As the owner. */
  database: Pick<Database, 'call'>
  secret: Pick<VersionedSecret, 'read'>
}

/**
 * Gives the login that the app secret names now the password that it holds. May be repeated, and mends a login that is
 * refused for whatever reason. Returns its name. Running connections of the login are not affected.
 */
export async function setLogin({ database, secret }: SetLoginServices): Promise<string> {
  const current = await secret.read('AWSCURRENT')
  if (current === undefined) throw new Error('The app secret has no value.')
  const { username, password } = readLogin(current.text)
  await database.call('set_login', [
    { text: username },
    { text: await verifierOf(password) },
    { text: current.id },
  ])
  return username
}
