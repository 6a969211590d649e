/** The database is lost after messages have left it: a snapshot from before, and the archive, give all of it back. */
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { gunzipSync } from 'node:zlib'
import {
  DeleteObjectCommand,
  GetObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3'
import pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { ApiClient, Reply } from '../harness/client.ts'
import { ISOLATED, type Run, runOps } from '../harness/ops.ts'
import {
  createDatabase,
  dropDatabase,
  type PostgresServer,
  startPostgresServer,
} from '../harness/postgres-server.ts'
import { erased } from '../harness/rights.ts'
import { startTurnkeep, type Turnkeep } from '../harness/turnkeep.ts'

const LARGE = '큰 글 😀 "quoted" \\ '.repeat(4_000)
/** Long enough to leave, and less than the year after which nobody knows whose it was. */
const MONTHS = "interval '5 months'"

let server: PostgresServer
let turnkeep: Turnkeep
let database = ''
let s3: S3Client
beforeAll(async () => {
  server = await startPostgresServer()
  const databaseUrl = await createDatabase(server.url, 'restored')
  database = new URL(databaseUrl).pathname.slice(1)
  turnkeep = await startTurnkeep({ databaseUrl })
  s3 = new S3Client({
    endpoint: turnkeep.cloud.fauxqs.address,
    region: 'us-east-1',
    credentials: { accessKeyId: 'local', secretAccessKey: 'local' },
    forcePathStyle: true,
  })
})
afterAll(async () => {
  s3.destroy()
  await turnkeep.close()
  await server.close()
})

async function administer(...statements: string[]): Promise<void> {
  const client = new pg.Client({ connectionString: server.url })
  await client.connect()
  try {
    for (const statement of statements) await client.query(statement)
  } finally {
    await client.end()
  }
}
/** A copy of a database, as a snapshot is one: of its files, while nobody writes. */
const copy = (from: string, to: string) =>
  administer(
    `alter database "${from}" with allow_connections false`,
    // Autovacuum's workers leave by themselves; only a superuser may end them.
    `select pg_terminate_backend(pid) from pg_stat_activity
     where datname = '${from}' and backend_type = 'client backend'`,
    `create database "${to}" template "${from}"`,
    `alter database "${from}" with allow_connections true`,
  )
const restoreSnapshot = async (): Promise<void> => {
  await dropDatabase(server.url, database)
  await copy('snapshot', database)
}

const bucket = (): string => turnkeep.cloud.functionEnvironment.CONTENT_BUCKET ?? ''
const restore = (...args: string[]): Promise<Run> =>
  runOps(['restore', '--from', 'archive/', '--json', ...args], turnkeep.cloud.functionEnvironment)
const told = ({ out }: Run): Record<string, number> & { failures: string[] } => JSON.parse(out)

/** A process needs half a second to begin. */
const KILLED_AFTER_MS = [600, 700, 800, 900, 1_000, 1_200]
async function killedRestore(ms: number): Promise<void> {
  const child = spawn(process.execPath, ['ops/main.ts', 'restore', '--from', 'archive/', '--all'], {
    stdio: 'ignore',
    env: { ...ISOLATED, ...turnkeep.cloud.functionEnvironment },
  })
  const ended = once(child, 'exit')
  await sleep(ms)
  child.kill('SIGKILL')
  await ended
}

const NO_TEXT = '{"content": "", "metadata": {}, "sources": [], "feedback_comment": null}'
/** Every column of every message, as Postgres writes it; of what was deleted not what anybody has written, which the archive never has. */
const rows = async (where = 'true'): Promise<string[]> =>
  (
    await turnkeep.rows<{ line: string }>(
      `select (to_jsonb(m) || case when m.is_deleted then '${NO_TEXT}' else '{}' end::jsonb)::text as line from chat_messages m where ${where} order by session_id, sequence_number, id`,
    )
  ).map(({ line }) => line)

async function conversation(user: ApiClient, questions: string[], sessionId?: string): Promise<Reply[]> {
  const replies: Reply[] = []
  for (const message of questions) {
    const inSession = sessionId ?? replies[0]?.session?.sessionId
    const reply = await user.ask({ message, ...(inSession && { sessionId: inSession }) })
    expect(reply.terminal?.type).toBe('done')
    replies.push(reply)
  }
  await turnkeep.drained()
  return replies
}
const sessionOf = (replies: Reply[]): string => replies[0]?.session?.sessionId ?? ''
const answerOf = (reply: Reply | undefined): string => reply?.session?.messageId ?? ''

const ACME = { companyId: 'acme', platform: 'web' }
const OTHER = { companyId: 'other', platform: 'web' }

/** What is new becomes months older. */
async function age(...tenants: (typeof ACME)[]): Promise<void> {
  const isNew = (column: string) => `${column} > now() - interval '1 day'`
  for (const tenant of tenants)
    for (const sql of [
      `update chat_messages set created_at = created_at - ${MONTHS} where ${isNew('created_at')}`,
      `update chat_turns set opened_at = opened_at - ${MONTHS}, finished_at = finished_at - ${MONTHS} where ${isNew('opened_at')}`,
      `update chat_sessions set created_at = least(created_at, last_active_at - ${MONTHS}), last_active_at = last_active_at - ${MONTHS},
         expires_at = expires_at - ${MONTHS} where ${isNew('last_active_at')}`,
    ])
      await turnkeep.rows(sql, tenant)
}

/** Whatever the last run has said of the next. */
async function runArchiver(): Promise<void> {
  await s3.send(new DeleteObjectCommand({ Bucket: bucket(), Key: 'archive/next-run.json' }))
  const archived = JSON.parse(String(await turnkeep.cloud.runtimeApi.invoke('archive', '{}')))
  expect(archived).toMatchObject({ failed: 0, isFinished: true })
}

test('a database that is gone comes back from a snapshot and the archive, row by row', async () => {
  const user = turnkeep.as({ userId: 'u1' })
  const erased = turnkeep.as({ userId: 'erased' })
  const first = await conversation(user, ['첫 질문', LARGE, '세 번째'])
  const second = await conversation(user, ['그리고', 'again'])
  const gone = await conversation(erased, ['지워질 것'])
  const other = await conversation(turnkeep.as({ companyId: 'other', userId: 'u9' }), ['elsewhere'])
  await age(ACME, OTHER)
  await copy(database, 'snapshot')

  await user.call('POST', `/api/messages/${answerOf(first[0])}/feedback`, {
    score: 4,
    comment: '좋아요 "😀"',
  })
  await user.call('DELETE', `/api/messages/${answerOf(second[1])}`)
  await conversation(user, ['스냅샷 뒤의 질문', `${LARGE} 둘`], sessionOf(first))
  const unknown = await conversation(user, ['스냅샷이 모르는 대화'])
  await age(ACME)
  await turnkeep.rows(`update chat_messages set metadata = '{"big": 9007199254740993, "n": 1.50}', priority = '긴급', langsmith_trace_id = 't', updated_at = clock_timestamp()
    where id = '${answerOf(unknown[0])}'`)
  const mine = `session_id <> '${sessionOf(gone)}'`
  const before = await rows(mine)
  const goneRows = await rows(`not (${mine})`)
  const counts = () =>
    turnkeep.rows(
      `select id, message_count from chat_sessions where id in ('${sessionOf(first)}', '${sessionOf(second)}', '${sessionOf(unknown)}') order by id`,
    )
  const countsBefore = await counts()
  expect(before).toHaveLength(18 - 2)

  await runArchiver()
  expect(await rows()).toEqual([])
  const [object] = await turnkeep.rows<{ key: string }>('select key from archive_objects')
  const key = object?.key ?? ''
  const lines = await linesOf(key)

  // An erasure of which the snapshot knows nothing.
  await restoreSnapshot()
  const hash = lines.find(({ session_id }) => session_id === sessionOf(gone))?.user ?? ''
  expect(hash).toMatch(/^anon_/)
  const tombstone = { companyId: 'acme', platform: 'web', user: hash, cutoff: new Date().toISOString() }
  await s3.send(
    new PutObjectCommand({
      Bucket: bucket(),
      Key: `erasures/acme/web/${randomUUID()}.json`,
      Body: JSON.stringify(tombstone),
    }),
  )
  await turnkeep.rows(`delete from chat_messages where session_id = '${sessionOf(gone)}'`)

  // Killed at any instant, it goes on the next time.
  for (const ms of KILLED_AFTER_MS) await killedRestore(ms)
  expect(await restore('--all')).toMatchObject({ code: 0, err: '' })
  const restored = await rows()
  const same = restored.filter((row, index) => row === before[index]).length
  console.log(
    `Database dropped, snapshot and archive restored: ${same} of ${before.length} rows equal in every column`,
  )
  expect(restored).toEqual(before)
  expect(await counts()).toEqual(countsBefore)
  await restoreSnapshot()
  await turnkeep.rows(`delete from chat_messages where session_id = '${sessionOf(gone)}'`)

  // One session alone: what the snapshot does not know of it, and what has changed since.
  const one = await restore('--session', sessionOf(first))
  expect(one, one.err).toMatchObject({ code: 0, err: '' })
  expect(told(one)).toMatchObject({ objects: 2, restored: 4, replaced: 1, present: 5, erased: 0 })
  expect(await rows(`session_id = '${sessionOf(first)}'`)).toEqual(
    before.filter((line) => line.includes(`"session_id": "${sessionOf(first)}"`)),
  )
  expect(await turnkeep.rows('select key from archive_objects')).toEqual([])

  // Texts that were in the bucket, and are not, come from the archive as well.
  const texts = await turnkeep.rows<{ content_key: string }>(
    'select content_key from chat_messages where content_key is not null',
  )
  expect(texts).toHaveLength(2)
  for (const { content_key } of texts)
    await s3.send(new DeleteObjectCommand({ Bucket: bucket(), Key: content_key }))
  const all = await restore('--tenant', 'acme/web')
  expect(all, all.err).toMatchObject({ code: 0, err: '' })
  expect(told(all)).toMatchObject({ objects: 1, restored: 2, replaced: 1, erased: 2 })
  expect(await rows()).toEqual(before)
  expect(goneRows).toHaveLength(2)
  expect(await counts()).toEqual(countsBefore)

  // Again: nothing changes.
  expect(told(await restore('--all'))).toMatchObject({ objects: 2, restored: 0, replaced: 0, erased: 2 })
  expect(await rows()).toEqual(before)
  expect(await counts()).toEqual(countsBefore)

  // Users read it, texts in the bucket included; what no snapshot knew stands under a keyed hash until its user asks for it.
  const contents = (await user.messages(sessionOf(first))).map(({ content }) => content)
  expect(contents).toContain(LARGE)
  expect(contents).toContain(`${LARGE} 둘`)
  expect(
    await turnkeep.rows(`select user_id from chat_sessions where id = '${sessionOf(unknown)}'`),
  ).toMatchObject([{ user_id: expect.stringMatching(/^anon_/) }])
  const stranger = turnkeep.as({ userId: 'stranger' })
  expect((await stranger.call('GET', `/api/sessions/${sessionOf(unknown)}/messages`)).status).toBe(404)
  expect(await user.messages(sessionOf(unknown))).toHaveLength(2)
  const admin = turnkeep.as({ userId: 'boss', role: 'admin' })
  expect(await admin.messages(sessionOf(unknown))).toHaveLength(2)
  expect(await turnkeep.as({ companyId: 'other', userId: 'u9' }).messages(sessionOf(other))).toHaveLength(2)

  // The object is known again, so that an erasure finds it; and the next run may archive everything anew.
  expect(await turnkeep.rows('select key from archive_objects')).toEqual([{ key }])
  expect(
    await turnkeep.rows(`select count(*)::int as n from archive_segments where object_key = '${key}'`),
  ).toEqual([{ n: new Set(lines.map(({ session_id }) => session_id)).size }])
  await turnkeep.rows(
    `update chat_sessions set last_active_at = last_active_at - ${MONTHS} where last_active_at > now() - interval '40 days'`,
  )
  const archivedAgain = async () => {
    await runArchiver()
    return rows()
  }
  // The first run asks for the erasure again, which may drop what that run has just written.
  await expect.poll(archivedAgain, { timeout: 60_000 }).toEqual([])
  expect((await user.messages(sessionOf(first))).map(({ content }) => content)).toEqual(contents)
}, 180_000)

test('what is damaged is named, and the rest comes back', async () => {
  const user = turnkeep.as({ companyId: 'damaged', userId: 'u1' })
  const tenant = { companyId: 'damaged', platform: 'web' }
  const whole = await conversation(user, ['온전한 것'])
  const broken = await conversation(user, ['망가질 것'])
  await age(tenant)
  await runArchiver()
  const [segment] = await turnkeep.rows<{ object_key: string; byte_offset: string; byte_length: number }>(
    `select * from archive_segments where session_id = '${sessionOf(broken)}'`,
    tenant,
  )
  const { object_key: Key = '', byte_offset = '0', byte_length = 0 } = segment ?? {}
  const bytes = await bytesOf(Key)
  const middle = Number(byte_offset) + Math.floor(byte_length / 2)
  bytes[middle] = (bytes[middle] ?? 0) ^ 255
  await s3.send(new PutObjectCommand({ Bucket: bucket(), Key, Body: bytes }))
  const run = await restore('--tenant', 'damaged/web')
  expect(run.code).toBe(1)
  expect(told(run)).toMatchObject({
    restored: 2,
    failures: [expect.stringContaining(`at ${byte_offset} of ${Key}`)],
  })
  expect(run.out + run.err).not.toContain('망가질')
  expect(await user.messages(sessionOf(whole))).toHaveLength(2)
}, 60_000)

/** As in a database that was restored from before anything of a tenant left. */
async function forgetArchive(tenant: typeof ACME): Promise<void> {
  for (const table of [
    'archive_objects',
    'archive_segments',
    'archived_messages',
    'archived_threads',
    'chat_messages',
    'chat_sessions',
  ])
    await turnkeep.rows(`delete from ${table}`, tenant)
}
const bucketHolds = async (prefix: string): Promise<string[]> =>
  (await s3.send(new ListObjectsV2Command({ Bucket: bucket(), Prefix: prefix }))).Contents?.map(
    ({ Key = '' }) => Key,
  ) ?? []

test('what was put back stays in the bucket as well: a restore may be begun anew from the same snapshot', async () => {
  const tenant = { companyId: 'anew', platform: 'web' }
  const user = turnkeep.as({ companyId: 'anew', userId: 'u1' })
  const replies = await conversation(user, ['첫 질문', LARGE, '지울 것'])
  await age(tenant)
  await runArchiver()
  const held = await bucketHolds('archive/anew/')
  expect(held).toHaveLength(2)
  const contents = async () => (await user.messages(sessionOf(replies))).map(({ content }) => content)
  const before = await contents()
  for (let time = 0; time < 2; time += 1) {
    await forgetArchive(tenant)
    expect(told(await restore('--tenant', 'anew/web'))).toMatchObject({ failures: [] })
    expect(await contents()).toEqual(before)
    // As the archiver finds it a day later, and the day after.
    for (let run = 0; run < 2; run += 1) {
      await turnkeep.rows(`update archive_objects set created_at = created_at - interval '1 day'`, tenant)
      await runArchiver()
      expect(await turnkeep.rows('select id from chat_messages', tenant)).toEqual([])
      expect(await bucketHolds('archive/anew/')).toEqual(expect.arrayContaining(held))
      expect(await contents()).toEqual(before)
    }
  }
  // What is deleted afterwards is not shown again by any of the copies, also when its row has had its time.
  expect((await user.call('DELETE', `/api/messages/${answerOf(replies[2])}`)).status).toBe(204)
  await turnkeep.rows(
    `update chat_messages set deleted_at = now() - interval '40 days' where is_deleted`,
    tenant,
  )
  await runArchiver()
  expect(await contents()).toEqual(before.slice(0, -1))
  // And an erasure finds all of them.
  expect((await erased(user, 'u1')).status).toBe('done')
  expect(await bucketHolds('archive/anew/')).toEqual([])
}, 120_000)

test('an object that an erasure has written again since the snapshot is read from what took its place', async () => {
  const tenant = { companyId: 'rewritten', platform: 'web' }
  const [stays, leaves] = ['stays', 'leaves'].map((userId) => turnkeep.as({ companyId: 'rewritten', userId }))
  if (stays === undefined || leaves === undefined) throw new Error('no users')
  const kept = await conversation(stays, ['남는 것', LARGE])
  const gone = await conversation(leaves, ['떠나는 것'])
  await age(tenant)
  await runArchiver()
  const before = await stays.messages(sessionOf(kept))
  // What a snapshot of now knows.
  const tables = [
    'archive_objects',
    'archive_segments',
    'archived_messages',
    'archived_threads',
    'chat_sessions',
  ]
  const snapshot = await Promise.all(
    tables.map(async (table) => {
      const [row] = await turnkeep.rows<{ rows: string }>(
        `select json_agg(t)::text as rows from ${table} t`,
        tenant,
      )
      return [table, row?.rows ?? '[]'] as const
    }),
  )
  const erasure = await erased(leaves, 'leaves')
  expect(erasure.status).toBe('done')
  await forgetArchive(tenant)
  for (const table of ['user_jobs', 'erasures', 'erased_sessions'])
    await turnkeep.rows(`delete from ${table}`, tenant)
  for (const [table, rows] of snapshot)
    await turnkeep.rows(
      `insert into ${table} select * from json_populate_recordset(null::${table}, $json$${rows}$json$)`,
      tenant,
    )
  expect((await stays.call('GET', `/api/sessions/${sessionOf(kept)}/messages`)).status).toBe(503)
  const first = await restore('--tenant', 'rewritten/web')
  // Of whom was erased there is nothing left to be put back.
  expect([first.code, told(first).failures]).toEqual([1, [expect.stringContaining('2 of its messages')]])
  expect(await stays.messages(sessionOf(kept))).toEqual(before)
  await runArchiver()
  // The erasure is asked for again by that run; where it meets the object, the second restore clears the way.
  const without = async () => {
    await turnkeep.drained()
    const run = await restore('--tenant', 'rewritten/web')
    return [
      run.code,
      told(run).failures,
      (await leaves.call('GET', `/api/sessions/${sessionOf(gone)}`)).status,
    ]
  }
  await expect.poll(without, { timeout: 60_000 }).toEqual([0, [], 404])
  expect((await erased(leaves, 'leaves', 60_000)).status).toBe('done')
  expect(await stays.messages(sessionOf(kept))).toEqual(before)
}, 180_000)

test('an older object alone does not bring an older version back', async () => {
  const tenant = { companyId: 'versions', platform: 'web' }
  const user = turnkeep.as({ companyId: 'versions', userId: 'u1' })
  const replies = await conversation(user, ['질문', 'another'])
  await age(tenant)
  await runArchiver()
  const [older] = await turnkeep.rows<{ key: string }>('select key from archive_objects', tenant)
  const rate = { score: 5, comment: '나중에 남긴 평가' }
  expect((await user.call('POST', `/api/messages/${answerOf(replies[0])}/feedback`, rate)).status).toBe(204)
  await runArchiver()
  expect(await turnkeep.rows('select id from chat_messages', tenant)).toEqual([])
  const before = await user.messages(sessionOf(replies))
  expect(before[1]).toMatchObject({ satisfactionScore: 5 })
  const run = await runOps(
    ['restore', '--from', older?.key ?? '', '--tenant', 'versions/web', '--json'],
    turnkeep.cloud.functionEnvironment,
  )
  expect(told(run)).toMatchObject({ restored: 3, present: 1, failures: [] })
  expect(await user.messages(sessionOf(replies))).toEqual(before)
}, 60_000)

test.each([
  [['--all'], 'from where'],
  [['--from', 'content/', '--all'], 'must begin with archive/'],
  [['--from', 'archive/'], 'Either --session'],
  [['--from', 'archive/', '--all', '--tenant', 'a/b'], 'Either --session'],
  [['--from', 'archive/', '--session', 'x'], 'UUID'],
  [['--from', 'archive/', '--tenant', 'acme'], '<company>/<platform>'],
  [['--from', 'archive/', '--tenant', 'a/%'], '<company>/<platform>'],
])('%j is called wrongly', async (args, says) => {
  const run = await runOps(['restore', ...args], turnkeep.cloud.functionEnvironment)
  expect(run.code).toBe(2)
  expect(run.err).toContain(says)
})

test('where there is no object, it says so', async () => {
  const run = await runOps(
    ['restore', '--from', 'archive/nobody/', '--all'],
    turnkeep.cloud.functionEnvironment,
  )
  expect([run.code, run.err]).toEqual([1, 'There is no object at archive/nobody/.\n'])
})

async function bytesOf(Key: string): Promise<Buffer> {
  const { Body } = await s3.send(new GetObjectCommand({ Bucket: bucket(), Key }))
  return Buffer.from((await Body?.transformToByteArray()) ?? [])
}

async function linesOf(key: string): Promise<{ session_id: string; user: string }[]> {
  const text = gunzipSync(await bytesOf(key)).toString()
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
}
