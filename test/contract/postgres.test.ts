/** The two servers behind the local Data API: what each keeps, and what it survives. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { type Postgres, startPostgres } from '../../local/cloud/postgres.ts'
import { PostgresError } from '../../local/cloud/postgres-error.ts'
import { createDatabase, type PostgresServer, startPostgresServer } from '../harness/postgres-server.ts'

const APP = { username: 'turnkeep_app_1', password: '' }
const cell = async (postgres: Postgres, sql: string, values: string[] = []) =>
  (await postgres.query('owner', sql, values)).rows[0]?.[0]

async function failure(answer: Promise<unknown>): Promise<PostgresError> {
  const error = await answer.then(
    () => expect.fail('it did not fail'),
    (reason) => reason,
  )
  expect(error).toBeInstanceOf(PostgresError)
  return error
}

describe('the embedded Postgres, in memory', () => {
  let postgres: Postgres
  const clients: pg.Client[] = []

  beforeAll(async () => {
    postgres = await startPostgres({})
    await postgres.query('owner', 'create role turnkeep_app_1 login', [])
    await postgres.query('owner', 'grant turnkeep_app_1 to current_user', [])
    await postgres.query('owner', 'create table things (a int)', [])
  })

  afterAll(async () => {
    for (const client of clients) await client.end()
    await postgres.close()
  })

  async function psql(user = 'turnkeep_owner') {
    const url = new URL(postgres.url ?? '')
    url.username = user
    const client = new pg.Client({ connectionString: url.href })
    client.on('error', () => {})
    await client.connect()
    clients.push(client)
    return client
  }
  const who = 'select current_user::text as me, current_setting($1) as zone'
  const mine = async (client: pg.Client) => (await client.query(who, ['timezone'])).rows[0]

  test('it says what it is, and how psql reaches it', () => {
    expect(postgres.description).toMatch(/^embedded Postgres 18\.\d+ \(PGlite\)$/)
    expect(postgres.url).toMatch(/^postgres:\/\/turnkeep_owner@127\.0\.0\.1:\d+\/postgres/)
  })

  test('its owner is no superuser, and has pgvector all the same', async () => {
    expect(await cell(postgres, 'select rolsuper from pg_roles where rolname = current_user')).toBe('f')
    await postgres.query('owner', 'create extension if not exists vector', [])
    expect(await cell(postgres, `select '[1,2]'::vector <-> '[1,4]'`)).toBe('2')
  })

  test('psql beside it has a role and settings of its own', async () => {
    const [owner, superuser] = [await psql(), await psql('postgres')]
    await owner.query(`set time zone 'Asia/Seoul'; set role turnkeep_app_1`)
    expect(await mine(superuser)).toEqual({ me: 'postgres', zone: 'UTC' })
    const answer = await postgres.query('owner', who, ['timezone'])
    expect(answer.rows).toEqual([['turnkeep_owner', 'UTC']])
    expect((await postgres.query(APP, who, ['timezone'])).rows).toEqual([['turnkeep_app_1', 'UTC']])
    expect(await mine(owner)).toEqual({ me: 'turnkeep_app_1', zone: 'Asia/Seoul' })
  })

  test('large statements of several connections get their own answers', async () => {
    const filler = 'x'.repeat(300_000) // arrives in pieces, between which another connection's turn could come
    const connections = await Promise.all([psql(), psql(), psql()])
    const ask = async (client: pg.Client, index: number) => {
      const wrong: string[] = []
      for (let n = 0; n < 20; n++) {
        const { rows } = await client.query('select left($1::text, 10) as start', [`${index}-${n}-${filler}`])
        if (!rows[0].start.startsWith(`${index}-${n}-`)) wrong.push(rows[0].start)
      }
      return wrong
    }
    expect((await Promise.all(connections.map(ask))).flat()).toEqual([])
  })

  test('a transaction in psql holds up the product until it is committed', async () => {
    const client = await psql()
    await client.query('begin')
    await client.query('insert into things values (1)')
    const count = cell(postgres, 'select count(*) from things')
    await client.query('insert into things values (2)')
    await client.query('commit')
    expect(await count).toBe('2')
  })

  test('a forgotten transaction in psql is ended for the product, and psql is told', async () => {
    const client = await psql()
    const told = once(client, 'error')
    await client.query('begin')
    await client.query('insert into things values (3)')
    expect(await cell(postgres, 'select count(*) from things where a = 3')).toBe('0')
    expect(await told).toMatchObject([{ code: '25P03' }])
  })

  test('a psql that goes away in a transaction leaves nothing behind', async () => {
    const client = await psql('postgres')
    await client.query('begin; insert into things values (4)')
    await client.end()
    expect(await cell(postgres, 'select count(*) from things where a = 4')).toBe('0')
    expect(await cell(postgres, 'select current_user::text')).toBe('turnkeep_owner')
  })

  test('COPY FROM STDIN in psql is refused, and the database lives', async () => {
    const client = await psql()
    await expect(client.query('copy things from stdin')).rejects.toMatchObject({ code: '0A000' })
    await expect(client.query({ text: 'copy things from stdin', name: 'copy' })).rejects.toMatchObject({
      code: '0A000',
    })
    expect(await cell(postgres, 'select 1')).toBe('1')
  })

  test('four megabytes arrive whole', async () => {
    expect(await cell(postgres, 'select length($1)', ['x'.repeat(4_000_000)])).toBe('4000000')
  })
})

describe('the embedded Postgres, on disk', () => {
  let directory: string
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'turnkeep-pglite-'))
  })
  afterAll(() => rm(directory, { recursive: true, force: true }))

  /** The number of the last row that was acknowledged before SIGKILL. */
  async function writeUntilKilled(dataDir: string, rows: number): Promise<number> {
    const script = join(import.meta.dirname, '../harness/acknowledged-writer.ts')
    const child: ChildProcess = spawn(process.execPath, [script, dataDir], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let last = 0
    let seen = 0
    for await (const line of createInterface({ input: child.stdout as NodeJS.ReadableStream })) {
      last = Number(line)
      if (++seen === rows) child.kill('SIGKILL')
    }
    return last
  }

  test('no acknowledged row is lost when the process is killed', async () => {
    const dataDir = join(directory, 'killed')
    for (const rows of [200, 50]) {
      const last = await writeUntilKilled(dataDir, rows)
      const postgres = await startPostgres({ dataDir })
      const found = await cell(postgres, 'select count(distinct n) from written where n <= $1::bigint', [
        String(last),
      ])
      await postgres.close()
      expect(last).toBeGreaterThanOrEqual(rows)
      expect(Number(found)).toBe(last)
    }
  }, 60_000)

  test('a runaway statement is ended, without effect, and the database answers again', async () => {
    const postgres = await startPostgres({ dataDir: join(directory, 'runaway') })
    await postgres.query('owner', 'create table things (n bigint)', [])
    await postgres.query('owner', 'insert into things values (1)', [])
    const endless =
      'insert into things with recursive n as (select 1 as n union all select n from n) select n from n'
    const { kind } = await failure(postgres.query('owner', endless, [], { timeoutMs: 300 }))
    expect(kind).toBe('timeout')
    const count = await vi.waitFor(() => cell(postgres, 'select count(*) from things'), { timeout: 15_000 })
    expect(count).toBe('1')
    await postgres.close()
  }, 60_000)
})

describe('a real Postgres', () => {
  let server: PostgresServer
  let url: string
  let postgres: Postgres

  beforeAll(async () => {
    server = await startPostgresServer()
    url = await createDatabase(server.url, 'postgres_contract')
    postgres = await startPostgres({ databaseUrl: url })
  })
  afterAll(async () => {
    await postgres.close()
    await server.close()
  })

  test('its description names the server, and no password', () => {
    const { hostname, port, pathname, password } = new URL(url)
    expect(postgres.description).toMatch(/^Postgres 1[5-9]\.\d+ at /)
    expect(postgres.description).toContain(`${hostname}:${port || 5432}${pathname}`)
    if (password !== '') expect(postgres.description).not.toContain(password)
    expect(postgres.url).toBeUndefined()
  })

  test('a role that the owner just made is one it may act as', async () => {
    await postgres.query(
      'owner',
      'do $$ begin create role turnkeep_app_1 login; exception when duplicate_object or unique_violation then null; end $$',
      [],
    )
    expect((await postgres.query(APP, 'select current_user::text', [])).rows).toEqual([['turnkeep_app_1']])
  })

  test('a statement over its time is cancelled on the server', async () => {
    const { kind } = await failure(postgres.query('owner', 'select pg_sleep(60)', [], { timeoutMs: 200 }))
    expect(kind).toBe('timeout')
    const running = `select count(*) from pg_stat_activity where state = 'active' and query like '%pg_sleep(60)' and datname = current_database()`
    expect(await cell(postgres, running)).toBe('0')
  })

  test('connections that the server ends are replaced', async () => {
    const others = `select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'`
    await Promise.all(Array.from({ length: 5 }, () => cell(postgres, 'select pg_sleep(0.05)')))
    await postgres.query('owner', others, [])
    await vi.waitFor(async () => {
      const answers = await Promise.all(Array.from({ length: 5 }, () => cell(postgres, 'select 1')))
      expect(answers).toEqual(Array(5).fill('1'))
    })
  })

  test('a server without TLS is refused when the URL requires it', async () => {
    const secure = new URL(url)
    secure.searchParams.set('sslmode', 'require')
    await expect(startPostgres({ databaseUrl: secure.href })).rejects.toThrow('does not support SSL')
  })

  test('a server that is not there is told at the start', async () => {
    const elsewhere = new URL(url)
    elsewhere.port = '1'
    await expect(startPostgres({ databaseUrl: elsewhere.href })).rejects.toThrow('ECONNREFUSED')
  })
})
