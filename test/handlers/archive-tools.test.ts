/** Ordinary tools read what the archiver has written, by docs/archive-format.md alone. */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { GetObjectCommand, ListObjectsV2Command, S3Client } from '@aws-sdk/client-s3'
import { type DuckDBConnection, DuckDBInstance } from '@duckdb/node-api'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startTurnkeep, type Turnkeep } from '../harness/turnkeep.ts'

const DOCUMENT = readFileSync(resolve(import.meta.dirname, '../../docs/archive-format.md'), 'utf8')
/** Blocks of a language; '' has none. */
const statements = (language: string): string[] =>
  [...DOCUMENT.matchAll(/^```(\w*)\n(.*?)^```$/gms)].flatMap(([, of, text = '']) =>
    of === language ? [text] : [],
  )

let turnkeep: Turnkeep
const directory = mkdtempSync(join(tmpdir(), 'turnkeep-archive-'))
/** Local copies of the objects, and of their manifests. */
let files: string[] = []
interface Expected {
  messages: number
  questions: number
  tokens: number
}
let expected: Expected
let sessionId = ''
let said: { role: string; content: string }[] = []

beforeAll(async () => {
  turnkeep = await startTurnkeep({ name: 'archive_tools' })
  for (const userId of ['one', 'two']) {
    const user = turnkeep.as({ userId })
    const first = await user.ask('배송은 언제 오나요? "😀"\n\\')
    sessionId = first.session?.sessionId ?? ''
    await user.ask({ message: 'second', sessionId })
  }
  await turnkeep.drained()
  said = (await turnkeep.as({ userId: 'two' }).messages(sessionId)).map(({ role, content }) => ({
    role,
    content,
  }))
  const back = `- interval '40 days'`
  await turnkeep.rows(`update chat_messages set created_at = created_at ${back}`)
  await turnkeep.rows(
    `update chat_sessions set last_active_at = last_active_at ${back}, created_at = created_at ${back}`,
  )
  await turnkeep.rows(`update chat_turns set finished_at = finished_at ${back}`)
  const [counts] = await turnkeep.rows<Record<keyof Expected, string>>(
    `select count(*) as messages, count(*) filter (where role = 'user') as questions, sum(token_count) as tokens from chat_messages`,
  )
  expected = {
    messages: Number(counts?.messages),
    questions: Number(counts?.questions),
    tokens: Number(counts?.tokens),
  }
  const archived = JSON.parse(String(await turnkeep.cloud.runtimeApi.invoke('archive', '{}')))
  expect(archived).toMatchObject({ messages: expected.messages, failed: 0 })
  files = await download()
})
afterAll(async () => {
  rmSync(directory, { recursive: true, force: true })
  await turnkeep.close()
})

async function download(): Promise<string[]> {
  const s3 = new S3Client({
    region: 'us-east-1',
    endpoint: turnkeep.cloud.fauxqs.address,
    credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
  })
  const { Contents = [] } = await s3.send(
    new ListObjectsV2Command({ Bucket: 'content', Prefix: 'archive/acme/' }),
  )
  return Promise.all(
    Contents.map(async ({ Key = '' }) => {
      const { Body } = await s3.send(new GetObjectCommand({ Bucket: 'content', Key }))
      const file = join(directory, Key)
      await mkdir(dirname(file), { recursive: true })
      writeFileSync(file, (await Body?.transformToByteArray()) ?? '')
      return file
    }),
  )
}
const objectFile = () => files.find((file) => file.endsWith('.jsonl.gz')) ?? ''

test('gzip reads an object as a whole, and its lines are those that the manifest counts', () => {
  const lines = execFileSync('gzip', ['-dc', objectFile()]).toString().trimEnd().split('\n')
  const manifest = JSON.parse(
    readFileSync(files.find((file) => file.endsWith('.manifest.json')) ?? '', 'utf8'),
  )
  expect(lines).toHaveLength(expected.messages)
  expect(manifest.messages).toBe(expected.messages)
  expect(manifest.segments).toHaveLength(2)
})

test('gzip reads one segment by the place that the manifest gives', () => {
  const manifest = JSON.parse(
    readFileSync(files.find((file) => file.endsWith('.manifest.json')) ?? '', 'utf8'),
  )
  for (const { offset, length, messages } of manifest.segments) {
    const member = readFileSync(objectFile()).subarray(offset, offset + length)
    const lines = execFileSync('gzip', ['-dc'], { input: member }).toString().trimEnd().split('\n')
    expect(lines).toHaveLength(messages)
  }
})

test('jq selects and counts', ({ skip }) => {
  skip(spawnSync('jq', ['--version']).error !== undefined, 'jq is not installed')
  const text = execFileSync('gzip', ['-dc', objectFile()])
  const jq = (...args: string[]) => execFileSync('jq', args, { input: text }).toString()
  expect(Number(jq('-s', 'map(select(.role == "user")) | length'))).toBe(expected.questions)
  expect(Number(jq('-s', 'map(.token_count // 0) | add'))).toBe(expected.tokens)
  const one = jq('-r', `select(.session_id == "${sessionId}" and .sequence_number == 1) | .content`)
  expect(one).toBe(`${said[0]?.content}\n`)
})

describe('DuckDB', () => {
  let duckdb: DuckDBConnection
  beforeAll(async () => {
    // What is not in the package would be fetched from the network.
    const settings = { autoinstall_known_extensions: 'false', autoload_known_extensions: 'false' }
    const instance = await DuckDBInstance.create(':memory:', settings)
    duckdb = await instance.connect()
    const [create] = statements('').filter((text) => text.startsWith('create view turnkeep_archive'))
    await duckdb.run(create?.replace("'archive/", `'${directory}/archive/`) ?? '')
  })
  afterAll(() => duckdb.closeSync())
  const rowsOf = async (sql: string) => (await duckdb.runAndReadAll(sql)).getRowObjectsJson()

  test('counts what Postgres counted', async () => {
    const [row] = await rowsOf(
      `select count(*)::integer as messages, (count(*) filter (where role = 'user'))::integer as questions,
         sum(token_count)::integer as tokens from turnkeep_archive`,
    )
    console.log('DuckDB over the archive:', row)
    expect(row).toEqual(expected)
  })

  test('runs the view and the three queries of the document as they stand there', async () => {
    const [view = '', byDay = '', conversation = '', byModel = ''] = statements('sql')
    await duckdb.run(view)
    const days = await rowsOf(byDay)
    expect(days.reduce((sum, { messages }) => sum + Number(messages), 0)).toBe(expected.messages)
    expect(days.reduce((sum, { tokens }) => sum + Number(tokens), 0)).toBe(expected.tokens)
    const messages = await rowsOf(conversation.replace('00000000-0000-0000-0000-000000000000', sessionId))
    expect(messages.map(({ role, content }) => ({ role, content }))).toEqual(said)
    const models = await rowsOf(byModel)
    expect(models).toMatchObject([{ model: 'scripted-chat', answers: String(expected.questions) }])
  })

  test('finds in the table of the document the columns that a line has', async () => {
    const [table = ''] = statements('').filter((text) => text.startsWith('create external table'))
    const [, columns = ''] = /\(\n(.*?)\n\)\npartitioned/s.exec(table) ?? []
    const named = columns.split(',').map((column) => column.trim().split(' ')[0]?.replaceAll('`', ''))
    const found = await rowsOf(
      'describe select * exclude (filename, "$path", company, platform_name) from turnkeep_archive',
    )
    expect(found.map(({ column_name }) => column_name).sort()).toEqual(named.sort())
  })
})
