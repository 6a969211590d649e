/**
 * Postgres as the Data API's servers see it: a pool of connections, on each of which a statement runs as whom the
 * caller's secret names. The server is the one that `databaseUrl` names, or PGlite behind the same wire protocol.
 */
import pg from 'pg'
import { firstWord } from '../../lambdas/services/sql-text.ts'
import { type Pglite, startPglite } from './pglite.ts'
import {
  describe,
  isLoginRefused,
  loginRefused,
  NO_SUCH_ROLE,
  NOT_SUPPORTED,
  OPEN_TRANSACTION,
  PERMISSION_DENIED,
  PostgresError,
  unavailable,
} from './postgres-error.ts'

export interface Login {
  username: string
  password: string
}

/** `owner` is whoever one connects as. */
export type User = 'owner' | Login

export interface Statement {
  fields: { name: string; typeOid: number }[]
  rows: (string | null)[][]
  rowCount: number
  /** The tag of what ran, without its counts: SELECT, INSERT, CREATE TABLE, … */
  command: string
}

export interface Postgres {
  /**
   * Runs one statement, with values as text for $1, $2, …, and returns cells as text. Throws PostgresError and
   * nothing else. A statement that is over its time is cancelled; 0 sets no limit.
   */
  query(
    user: User,
    text: string,
    values: (string | null)[],
    options?: { timeoutMs?: number },
  ): Promise<Statement>
  /** Whom the owner connects as. */
  readonly owner: string
  /** For people; holds no password. */
  readonly description: string
  /** Where psql reaches the embedded one; undefined where the server is somebody else's. */
  readonly url: string | undefined
  close(): Promise<void>
}

const DEFAULT_TIMEOUT_MS = 45_000 // as the Data API
/** For a server that does not cancel a statement itself, because it hangs or the network is gone. */
const CANCEL_GRACE_MS = 2_000
const POOL_SIZE = 10 // more connections than one machine's functions keep busy, fewer than a small server has
/** Covers a free connection as well: with PGlite there is one, which everybody waits for. */
const CONNECT_TIMEOUT_MS = 10_000
const OLDEST_SERVER = 150_000 // server_version_num: what the schema is tested with

// What a session of the Data API looks like, whatever the server's own defaults are: times in UTC, ISO dates.
const SESSION_DEFAULTS = [
  'reset all',
  'reset role',
  "set time zone 'UTC'",
  "set datestyle = 'ISO, MDY'",
  "set intervalstyle = 'postgres'",
  "set bytea_output = 'hex'",
  'set extra_float_digits = 1',
]

/** Cells stay as Postgres writes them. */
const AS_TEXT = { getTypeParser: () => (cell: string) => cell }

export interface PostgresOptions {
  databaseUrl?: string | undefined
  dataDir?: string | undefined
  /** A dump of an embedded one's files (PGlite, dumpDataDir), for one in memory to begin with; absent: it is empty. */
  beginWith?: string | undefined
  /**
   * Whether logins connect with their passwords, each on connections of its own, as the real Data API does. Otherwise
   * the owner takes their roles: logins belong to the whole server, where other databases' secrets may hold other
   * passwords for them.
   */
  realLogins?: boolean | undefined
}

export async function startPostgres(options: PostgresOptions): Promise<Postgres> {
  const embedded = options.databaseUrl === undefined ? await startPglite(options) : undefined
  const url = verifyingTls(options.databaseUrl ?? (embedded as Pglite).url)
  // PGlite is one session: a second connection would only make it switch.
  const pool = openPool(url, embedded ? 1 : POOL_SIZE)
  try {
    const server = await identify(pool)
    return openPostgres({ pool, server, embedded, loginUrl: options.realLogins ? url : undefined })
  } catch (error) {
    await pool.end()
    await embedded?.close()
    throw error
  }
}

function openPool(url: string, size: number): pg.Pool {
  const pool = new pg.Pool({
    connectionString: url,
    application_name: 'turnkeep-data-api',
    max: size,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    idleTimeoutMillis: 0, // a new connection costs more than an idle one
    keepAlive: true,
  })
  // A connection that breaks is told to its statement, if it has one. Without listeners it would end the process.
  pool.on('error', () => {})
  pool.on('connect', (client) => client.on('error', () => {}))
  return pool
}

interface Server {
  owner: string
  version: string
  versionNumber: number
  address: string
}

async function identify(pool: pg.Pool): Promise<Server> {
  const client = await pool.connect()
  try {
    const { rows } = await client.query('show server_version')
    const { rows: numbers } = await client.query('show server_version_num')
    const version = String(rows[0].server_version).split(' ')[0] ?? ''
    const versionNumber = Number(numbers[0].server_version_num)
    if (versionNumber < OLDEST_SERVER) throw new Error(`Postgres ${version} is too old: 15 is the oldest`)
    const { user = '', host, port, database } = client
    return { owner: user, version, versionNumber, address: `${host}:${port}/${database}` }
  } finally {
    client.release()
  }
}

/** What is known of a connection's session; absent where it is new, or in doubt. */
type Session = { role: string | undefined; timeoutMs: number }

interface Parts {
  /** The owner's connections. */
  pool: pg.Pool
  server: Server
  embedded: Pglite | undefined
  /** Where logins connect themselves; undefined where the owner takes their roles. */
  loginUrl: string | undefined
}

function openPostgres({ pool, server, embedded, loginUrl }: Parts): Postgres {
  /** By login and password: connections that were made with an older password live on, as everywhere. */
  const loginPools = new Map<string, pg.Pool>()
  const sessions = new WeakMap<pg.PoolClient, Session>()
  const inUse = new Set<pg.PoolClient>()

  const isOwner = (user: User) => user === 'owner' || user.username === server.owner

  function poolOf(user: User): pg.Pool {
    if (user === 'owner' || isOwner(user) || loginUrl === undefined) return pool
    const key = `${user.username}:${user.password}`
    const known = loginPools.get(key)
    if (known) return known
    const opened = openPool(Object.assign(new URL(loginUrl), user).href, POOL_SIZE)
    loginPools.set(key, opened)
    return opened
  }

  const sessionOf = (user: User, timeoutMs: number): Session => ({
    role: user === 'owner' || isOwner(user) || loginUrl !== undefined ? undefined : user.username,
    timeoutMs,
  })

  /** One round trip when something must change, none otherwise. */
  async function prepare(client: pg.PoolClient, wanted: Session) {
    const known = sessions.get(client)
    if (known && known.role === wanted.role && known.timeoutMs === wanted.timeoutMs) return
    sessions.delete(client)
    const changes = [
      ...(known ? [] : SESSION_DEFAULTS),
      `set statement_timeout = ${wanted.timeoutMs}`,
      wanted.role === undefined ? 'reset role' : `set role ${pg.escapeIdentifier(wanted.role)}`,
    ].join(';')
    await client.query(changes).catch(async (error) => {
      if (wanted.role === undefined) throw error
      if (error.code === NO_SUCH_ROLE) throw loginRefused(wanted.role)
      if (error.code !== PERMISSION_DENIED) throw error
      // Where it fails, somebody else has just done it, or the statement below says what is missing.
      await client
        .query(`reset role; ${membershipSql(wanted.role, server.versionNumber)}`)
        .catch(() => undefined)
      await client.query(changes)
    })
    sessions.set(client, wanted)
  }

  async function run(client: pg.PoolClient, session: Session, text: string, values: (string | null)[]) {
    // Its data would have to follow on the same connection, which nobody here can send: it would wait for ever.
    if (firstWord(text) === 'copy')
      throw new PostgresError('refused', 'COPY is not possible here', NOT_SUPPORTED)
    await prepare(client, session)
    const result = await client.query({
      text,
      values,
      rowMode: 'array',
      types: AS_TEXT,
      // Also without values: the simple protocol would run several statements.
      queryMode: 'extended',
    } as pg.QueryArrayConfig)
    if (mayChangeSession(result.command, text)) sessions.delete(client)
    if (client.getTransactionStatus() === 'I') return result
    throw new PostgresError('refused', 'A statement must not leave a transaction open', OPEN_TRANSACTION)
  }

  return {
    owner: server.owner,
    description: embedded
      ? `embedded Postgres ${server.version} (PGlite)`
      : `Postgres ${server.version} at ${server.address}`,
    url: embedded?.url,

    async query(user, text, values, { timeoutMs = DEFAULT_TIMEOUT_MS } = {}) {
      const client = await poolOf(user)
        .connect()
        .catch((error: Error) => {
          // It listens but does not answer: the one thread it has is stuck.
          if (/connection timeout/.test(error.message)) embedded?.interrupt()
          throw isLoginRefused(error)
            ? new PostgresError('refused', error.message, error)
            : unavailable(error)
        })
      inUse.add(client)
      const limitMs = timeoutMs && timeoutMs + (embedded ? 0 : CANCEL_GRACE_MS)
      let isOverdue = false
      const deadline = limitMs
        ? setTimeout(() => {
            isOverdue = true
            cut(client)
            embedded?.interrupt() // it knows no statement_timeout
          }, limitMs)
        : undefined
      let failure: PostgresError | undefined
      try {
        const { fields, rows, rowCount, command } = await run(
          client,
          sessionOf(user, timeoutMs),
          text,
          values,
        )
        return {
          fields: fields.map(({ name, dataTypeID }) => ({ name, typeOid: dataTypeID })),
          rows,
          rowCount: rowCount ?? 0,
          command,
        }
      } catch (error) {
        failure = isOverdue ? new PostgresError('timeout', 'The statement took too long') : describe(error)
        throw failure
      } finally {
        clearTimeout(deadline)
        inUse.delete(client)
        // Closing the connection is also what rolls back a transaction that a statement left open.
        client.release(failure?.kind === 'unavailable' || isOverdue || client.getTransactionStatus() !== 'I')
      }
    },

    async close() {
      for (const client of inUse) cut(client)
      await Promise.all([pool, ...loginPools.values()].map((one) => one.end()))
      await embedded?.close()
    },
  }
}

/** For whoever owns the role but may not become it: from 16 on, making a role does not include that. */
const membershipSql = (role: string, versionNumber: number) =>
  `grant ${pg.escapeIdentifier(role)} to current_user${versionNumber >= 160_000 ? ' with inherit false, set true' : ''}`

/** Settings end with their statement's transaction, unless it was one of these. */
const mayChangeSession = (command: string, text: string) =>
  /^(SET|RESET|DISCARD|DO|CALL)$/.test(command) || /set_config/i.test(text)

/** Ends a connection from below; whoever waits for it is told that it broke. */
function cut(client: pg.PoolClient) {
  ;(client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy()
}

/** From `require` on the certificate is verified, which is what node-postgres 8 does and 9 will not. */
const verifyingTls = (url: string) => url.replace(/\bsslmode=(require|verify-ca)\b/, 'sslmode=verify-full')
