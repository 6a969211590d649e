/**
 * The rotation of the app secret, in the four steps of Secrets Manager
 * (https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotate-secrets_lambda-functions.html), alternating
 * between two logins: the one in use keeps its password until the next rotation, so nobody is ever locked out.
 *
 * Each step looks at what is there, so it may be repeated, also after it was killed anywhere. The database is called
 * with the app secret itself: the master's password has no part in this.
 */
import type { Database } from '../services/database.ts'
import type { SecretVersion, VersionedSecret } from '../services/secrets.ts'
import { readLogin, withNextLogin } from './login.ts'
import { verifierOf } from './verifier.ts'

export interface RotateServices {
  secret: VersionedSecret
  /** As the login that the secret's current version names. */
  database: Pick<Database, 'call' | 'execute'>
  /** Whether a failure of the database says that it does not accept the login. */
  isLoginRefused(error: unknown): boolean
}

export type Step = 'createSecret' | 'setSecret' | 'testSecret' | 'finishSecret'

const steps: Record<Step, (services: RotateServices, version: string) => Promise<void>> = {
  createSecret,
  setSecret,
  testSecret,
  finishSecret,
}

/**
 * Does one step for one version of the secret. Refuses a step that there is not, a version that is not the pending one, and a
 * secret that does not rotate.
 */
export async function rotate(services: RotateServices, step: string, version: string): Promise<void> {
  if (!Object.hasOwn(steps, step)) throw new Error(`Rotation has no step ${step}.`)
  const { rotates, stages } = await services.secret.describe()
  if (!rotates) throw new Error('Rotation is not switched on for the app secret.')
  const labels = stages[version]
  if (labels === undefined) throw new Error(`The app secret has no version ${version}.`)
  const isCurrent = labels.includes('AWSCURRENT')
  if (!isCurrent && !labels.includes('AWSPENDING'))
    throw new Error(`Version ${version} of the app secret is not the pending one.`)
  // A repeated step of a rotation that came to its end; the end itself is looked at once more.
  if (isCurrent && step !== 'finishSecret') return
  await steps[step as Step](services, version)
}

/** The pending version: the other login, with a new password. */
async function createSecret({ secret }: RotateServices, version: string): Promise<void> {
  if (await secret.read('AWSPENDING', version)) return
  const { text } = await readCurrent(secret)
  await secret.putPending({ id: version, text: withNextLogin(text) })
}

/** The other login gets its password. The database refuses to change the login in use, and any other role. */
async function setSecret({ secret, database }: RotateServices, version: string): Promise<void> {
  const { username, password } = readLogin((await readPending(secret, version)).text)
  await database.call('change_other_login', [
    { text: username },
    { text: await verifierOf(password) },
    { text: version },
  ])
}

/**
 * The Data API logs in with the current version of a secret and with no other, so nobody can log in with the pending
 * one yet. What the server can say without showing verifiers is proven: the login may log in, has the functions'
 * privileges, and the last password it was given is this version's. That it is accepted shows in the last step.
 */
async function testSecret({ secret, database }: RotateServices, version: string): Promise<void> {
  const pending = readLogin((await readPending(secret, version)).text)
  const current = readLogin((await readCurrent(secret)).text)
  // When rotation is switched on, Secrets Manager tries this step alone, on a version that is like the current one.
  const isTrial = pending.username === current.username && pending.password === current.password
  if (isTrial) return tryLogin(database)
  const [row] = await database.call<{ login_stands: boolean }>('login_stands', [
    { text: pending.username },
    { text: version },
  ])
  if (!row?.login_stands) throw new Error(`${pending.username} does not stand ready with version ${version}.`)
}

/** The pending version becomes the current one, and is taken back at once where the database does not accept its login. */
async function finishSecret({ secret, database, isLoginRefused }: RotateServices, version: string) {
  const { stages } = await secret.describe()
  const labelled = (label: string) => Object.keys(stages).find((id) => stages[id]?.includes(label))
  const current = labelled('AWSCURRENT')
  if (current === undefined) throw new Error('The app secret has no current version.')
  if (current !== version) await secret.moveCurrent(current, version)
  const before = current === version ? labelled('AWSPREVIOUS') : current
  try {
    await tryLogin(database)
  } catch (error) {
    if (before !== undefined && isLoginRefused(error)) await secret.moveCurrent(version, before)
    throw error
  }
}

/** One call as the functions make theirs. */
const tryLogin = async (database: RotateServices['database']): Promise<void> => {
  await database.execute('select 1 as one')
}

async function readCurrent(secret: VersionedSecret): Promise<SecretVersion> {
  const current = await secret.read('AWSCURRENT')
  if (current === undefined) throw new Error('The app secret has no current version.')
  return current
}

async function readPending(secret: VersionedSecret, version: string): Promise<SecretVersion> {
  const pending = await secret.read('AWSPENDING', version)
  if (pending === undefined) throw new Error(`Version ${version} of the app secret has no value yet.`)
  return pending
}
