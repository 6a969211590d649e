/**
 * Many connections on the one session that PGlite has.
 *
 * PGlite is a single Postgres backend: role, settings and an open transaction belong to whoever comes next. What a
 * connection sets is therefore put away when another one's turn comes and put back for its own, so that a psql beside
 * the product can neither change the role that the product's statements run as nor find itself in it. Prepared
 * statements, temporary tables, advisory locks and LISTEN remain common to all.
 *
 * Stands in for pglite-socket's own queue, which (0.2.17) hands single protocol messages to the backend: where those
 * of two connections alternate, one is given the other's rows. Here the unit is everything up to a Sync.
 */
import type { PGlite } from '@electric-sql/pglite'
import { kindOf, SYNC, userOf, withoutCopy } from './pglite-wire.ts'

export type Backend = Pick<PGlite, 'exec' | 'query' | 'execProtocolRawStream' | 'isInTransaction'>

/** A forgotten BEGIN in psql would stop the product: only somebody who keeps others waiting is sent away. */
const IDLE_TRANSACTION_MS = 5_000

interface Session {
  readonly id: number
  user: string
  role: string
  settings: Record<string, string>
  /** Messages that wait for the Sync that ends them. */
  unsent: Uint8Array[]
}

interface Job {
  session: Session
  run(): Promise<void>
  cancel(): void
}

/** The methods that PGLiteSocketHandler calls on its queue; connections are known by the handler's number. */
export interface SharedBackend {
  enqueue(connection: number, message: Uint8Array, onData: (data: Uint8Array) => void): Promise<number>
  clearQueueForHandler(connection: number): void
  clearTransactionIfNeeded(connection: number): Promise<void>
  getQueueLength(): number
}

export interface SharedBackendOptions {
  /** Whom a connection acts as when Postgres has no role of the name that it gave. */
  defaultUser: string
  /** Closes a connection that keeps others waiting in an idle transaction. */
  evict(connection: number): void
}

export function shareBackend(db: Backend, { defaultUser, evict }: SharedBackendOptions): SharedBackend {
  const sessions = new Map<number, Session>()
  let jobs: Job[] = []
  let current: Session | undefined
  let isMidPipeline = false
  let isBusy = false
  let idleSince = 0
  let eviction: NodeJS.Timeout | undefined

  function sessionOf(id: number): Session {
    const known = sessions.get(id)
    if (known) return known
    const session = { id, user: defaultUser, role: 'none', settings: {}, unsent: [] }
    sessions.set(id, session)
    return session
  }

  async function drain() {
    if (isBusy) return
    isBusy = true
    clearTimeout(eviction)
    for (let job = nextJob(); job; job = nextJob()) {
      await job.run()
      idleSince = Date.now()
    }
    isBusy = false
    const holder = current
    if (jobs.length > 0 && holder)
      eviction = setTimeout(() => evict(holder.id), idleSince + IDLE_TRANSACTION_MS - Date.now())
  }

  function nextJob(): Job | undefined {
    const isHeld = current !== undefined && (isMidPipeline || db.isInTransaction())
    const index = isHeld ? jobs.findIndex((job) => job.session === current) : 0
    return jobs.splice(index < 0 ? jobs.length : index, 1)[0]
  }

  async function giveTurnTo(session: Session) {
    if (current === session) return
    if (current) await putAway(db, current)
    current = undefined
    await putBack(db, session)
    current = session
  }

  async function execute(session: Session, message: Uint8Array, onData: (data: Uint8Array) => void) {
    if (kindOf(message) === 'startup') session.user = await knownUser(db, userOf(message), defaultUser)
    await giveTurnTo(session)
    let size = 0
    await db.execProtocolRawStream(message, {
      onRawData: (data) => {
        size += data.length
        onData(data)
      },
    })
    return size
  }

  async function end(session: Session) {
    sessions.delete(session.id)
    if (current !== session) return
    // After an error, everything up to a Sync is ignored.
    if (isMidPipeline) await db.execProtocolRawStream(SYNC, { onRawData: () => {} })
    isMidPipeline = false
    if (db.isInTransaction()) await db.exec('rollback')
    await db.exec('discard all')
    current = undefined
  }

  return {
    enqueue(connection, message, onData) {
      const kind = kindOf(message)
      if (kind === 'terminate') return Promise.resolve(0) // the socket closes next, and that ends the session
      const session = sessionOf(connection)
      session.unsent.push(withoutCopy(message))
      if (kind === 'part') return Promise.resolve(0)
      const unit = Buffer.concat(session.unsent)
      session.unsent = []
      return new Promise((resolve, reject) => {
        const run = async () => {
          isMidPipeline = kind === 'flush'
          await execute(session, unit, onData).then(resolve, reject)
        }
        jobs.push({ session, run, cancel: () => reject(new Error('The connection was closed')) })
        void drain()
      })
    },
    clearQueueForHandler(connection) {
      const dropped = jobs.filter((job) => job.session.id === connection)
      jobs = jobs.filter((job) => job.session.id !== connection)
      for (const job of dropped) job.cancel()
    },
    clearTransactionIfNeeded(connection) {
      const session = sessions.get(connection)
      if (!session) return Promise.resolve()
      return new Promise((resolve, reject) => {
        jobs.push({ session, run: () => end(session).then(resolve, reject), cancel: resolve })
        void drain()
      })
    },
    getQueueLength: () => jobs.length,
  }
}

async function putAway(db: Backend, session: Session) {
  const { rows } = await db.query<Pick<Session, 'role' | 'settings'>>(`
    select current_setting('role') as role, coalesce(json_object_agg(name, setting), '{}') as settings
    from pg_catalog.pg_settings where source = 'session'`)
  Object.assign(session, rows[0])
}

/** All or nothing, since several statements in one message are one transaction. */
async function putBack(db: Backend, session: Session) {
  const settings = Object.entries(session.settings).map(
    ([name, value]) => `select pg_catalog.set_config(${literal(name)}, ${literal(value)}, false)`,
  )
  await db.exec(
    [
      'reset all',
      // Not RESET, which stays with the user that was set first; the login behind it is PGlite's superuser.
      `set session authorization ${identifier(session.user)}`,
      ...settings,
      session.role === 'none' ? 'set role none' : `set role ${identifier(session.role)}`,
    ].join(';'),
  )
}

async function knownUser(db: Backend, user: string, fallback: string): Promise<string> {
  const { rows } = await db.query('select from pg_catalog.pg_roles where rolname = $1', [user])
  return rows.length > 0 ? user : fallback
}

const literal = (text: string) => `'${text.replaceAll("'", "''")}'`
const identifier = (name: string) => `"${name.replaceAll('"', '""')}"`
