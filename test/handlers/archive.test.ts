/** The archiver's function over the local cloud: what people have said, from the front door to the bucket. */
import {
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { isDue, postpone } from '../../lambdas/ageing/next-run.ts'
import { readSegment, type SegmentPlace } from '../../lambdas/ageing/segments.ts'
import { openBucket } from '../../lambdas/services/bucket.ts'
import { type DrillCloud, startDrillCloud } from '../drills/drill-cloud.ts'
import { passAll } from '../drills/fault-proxy.ts'
import type { ApiClient } from '../harness/client.ts'
import { ACME } from '../harness/turnkeep.ts'

const NEXT_RUN = 'archive/next-run.json'

let cloud: DrillCloud
let s3: S3Client
beforeAll(async () => {
  cloud = await startDrillCloud({
    name: 'archive',
    scriptedModel: {
      respond: ({ messages }) => ({
        content:
          messages.at(-1)?.content === '긴 답'
            ? Array(40).fill('가나다라 '.repeat(200))
            : ['답 😀 ', '"done"'],
        tokenDelayMs: 0,
      }),
    },
  })
  Object.assign(process.env, {
    AWS_REGION: 'us-east-1',
    AWS_ACCESS_KEY_ID: 'test',
    AWS_SECRET_ACCESS_KEY: 'test',
    AWS_ENDPOINT_URL_S3: cloud.cloud.fauxqs.address,
  })
  s3 = new S3Client({})
})
afterAll(() => cloud.close())
beforeEach(async () => {
  cloud.proxy.decide = passAll
  await s3.send(new DeleteObjectCommand({ Bucket: 'content', Key: NEXT_RUN }))
})

const run = async () => JSON.parse(String(await cloud.cloud.runtimeApi.invoke('archive', '{}')))
const keysBelow = async (Prefix: string) =>
  (await s3.send(new ListObjectsV2Command({ Bucket: 'content', Prefix }))).Contents?.map(({ Key }) => Key) ??
  []

async function talk(user: ApiClient, questions: readonly string[]): Promise<string> {
  let sessionId: string | undefined
  for (const message of questions) {
    const { session, terminal } = await user.ask({ message, ...(sessionId && { sessionId }) })
    expect(terminal?.type).toBe('done')
    sessionId = session?.sessionId
  }
  await cloud.drained()
  return sessionId ?? ''
}

/** As if all of it had been said so many days earlier. */
async function age(sessionId: string, days: number): Promise<void> {
  const back = `- interval '${days} days'`
  await cloud.rows(
    `update chat_messages set created_at = created_at ${back} where session_id = '${sessionId}'`,
  )
  await cloud.rows(
    `update chat_sessions set created_at = created_at ${back}, last_active_at = last_active_at ${back},
       expires_at = expires_at ${back} where id = '${sessionId}'`,
  )
  await cloud.rows(
    `update chat_turns set opened_at = opened_at ${back}, finished_at = finished_at ${back} where session_id = '${sessionId}'`,
  )
}

const rowsOf = (sessionId: string) =>
  cloud.rows<{ line: Record<string, unknown> }>(
    `select to_json(m) as line from chat_messages m where session_id = '${sessionId}' order by sequence_number, id`,
  )
const segmentsOf = (sessionId: string) =>
  cloud.rows<SegmentPlace & { byte_offset: string }>(
    `select * from archive_segments where session_id = '${sessionId}' and state = 'live' order by id`,
  )

test('everything that is old leaves, and the copies are the rows with their whole texts', async () => {
  const user = cloud.as({ userId: 'archived' })
  const sessionId = await talk(user, ['안녕하세요 "😀"', '긴 답', 'third'])
  const before = await rowsOf(sessionId)
  const said = await user.messages(sessionId)
  expect(before.filter(({ line }) => line.content_key !== null)).toHaveLength(1)
  await age(sessionId, 31)
  const aged = await rowsOf(sessionId)
  expect(await run()).toMatchObject({ messages: 6, failed: 0, unfit: 0, isFinished: true })

  expect(await rowsOf(sessionId)).toEqual([])
  const [segment, ...others] = await segmentsOf(sessionId)
  if (!segment || others.length > 0) throw new Error(`${others.length} segments more`)
  const lines = await readSegment(openBucket('content'), {
    ...segment,
    byte_offset: Number(segment.byte_offset),
  })
  expect(lines.map(({ user: _, ...line }) => line)).toEqual(
    aged.map(({ line }, index) => ({ ...line, content: said[index]?.content })),
  )
  const pseudonyms = new Set(lines.map((line) => line.user))
  expect([...pseudonyms]).toEqual([expect.stringMatching(/^anon_[0-9a-f]{32}$/)])
  expect(await cloud.rows(`select message_id from chat_turns where session_id = '${sessionId}'`)).toEqual([])
})

test('the hash of a user is the same in every run, and another one in another tenant', async () => {
  const hashes = []
  for (const companyId of ['acme', 'acme', 'hash other']) {
    const user = cloud.as({ userId: 'same', companyId })
    const tenant = { ...ACME, companyId }
    const { session } = await user.ask('hello')
    await cloud.drained()
    const back = `- interval '40 days'`
    const id = session?.sessionId
    await cloud.rows(
      `update chat_messages set created_at = created_at ${back} where session_id = '${id}'`,
      tenant,
    )
    await cloud.rows(
      `update chat_sessions set created_at = created_at ${back}, last_active_at = last_active_at ${back} where id = '${id}'`,
      tenant,
    )
    await cloud.rows(
      `update chat_turns set finished_at = finished_at ${back} where session_id = '${id}'`,
      tenant,
    )
    await run()
    await s3.send(new DeleteObjectCommand({ Bucket: 'content', Key: NEXT_RUN }))
    const [segment] = await cloud.rows<SegmentPlace>(
      `select * from archive_segments where session_id = '${id}'`,
      tenant,
    )
    if (!segment) throw new Error('nothing was archived')
    const [line] = await readSegment(openBucket('content'), {
      ...segment,
      byte_offset: Number(segment.byte_offset),
    })
    hashes.push(line?.user)
  }
  expect(hashes[0]).toBe(hashes[1])
  expect(hashes[2]).not.toBe(hashes[0])
})

describe('while nothing is due', () => {
  const databaseCalls: string[] = []
  const watched = async () => {
    databaseCalls.length = 0
    cloud.proxy.decide = ({ service, operation, moment }) => {
      if (service === 'database' && moment === 'before') databaseCalls.push(operation)
      return 'pass'
    }
    return run()
  }

  test('a run leaves the database asleep, until something can have become due', async () => {
    const sessionId = await talk(cloud.as({ userId: 'sleeper' }), ['hello'])
    await age(sessionId, 28)
    expect(await run()).toMatchObject({ messages: 0, isFinished: true })
    const { Body } = await s3.send(new GetObjectCommand({ Bucket: 'content', Key: NEXT_RUN }))
    const notBefore = Date.parse(JSON.parse((await Body?.transformToString()) ?? '{}').notBefore)
    expect((notBefore - Date.now()) / 3600_000).toBeGreaterThan(47)
    expect((notBefore - Date.now()) / 3600_000).toBeLessThan(48.1)
    expect(await watched()).toEqual({ isDue: false })
    expect(databaseCalls).toEqual([])
    await age(sessionId, 3)
    await postpone(openBucket('content'), 0, Date.now() - 1)
    expect(await watched()).toMatchObject({ messages: 2 })
    expect(databaseCalls).toContain('remove_archived')
  })

  test.each([
    ['is not there', undefined, true],
    ['is not JSON', 'soon', true],
    ['holds no time', '{"notBefore": "soon"}', true],
    ['is over', '{"notBefore": "2026-11-20T00:00:00Z"}', true],
    ['is in two days', '{"notBefore": "2026-11-22T12:00:00Z"}', false],
    // Nobody waits longer than a week: that was written by a clock that was wrong.
    ['is in a year', '{"notBefore": "2027-11-20T12:00:00Z"}', true],
  ])('where its word %s', async (_, text, due) => {
    expect(await isDue({ get: async () => text }, Date.parse('2026-11-20T12:00:00Z'))).toBe(due)
  })
})

test('what a dead run has left is removed: its object, its upload, its manifest, its rows', async () => {
  const sessionId = await talk(cloud.as({ userId: 'dead' }), ['hello'])
  const below = 'archive/acme/web/2026/01/01/'
  const object = { Bucket: 'content', Key: `${below}dead.jsonl.gz` }
  await s3.send(new PutObjectCommand({ ...object, Body: 'half' }))
  await s3.send(new PutObjectCommand({ ...object, Key: `${below}dead.manifest.json`, Body: '{}' }))
  const { UploadId } = await s3.send(new CreateMultipartUploadCommand(object))
  const part = (PartNumber: number) =>
    s3.send(new UploadPartCommand({ ...object, UploadId, PartNumber, Body: 'part' }))
  await part(1)
  await cloud.rows(`insert into archive_objects (company_id, platform, key, state, upload_id, schema_version, created_at)
    values ('acme', 'web', '${object.Key}', 'writing', '${UploadId}', 1, now() - interval '61 minutes')`)
  await cloud.rows(`insert into archive_segments (company_id, platform, session_id, id, object_key, byte_offset, byte_length,
      text_bytes, messages, first_sequence, last_sequence, sha256, state)
    values ('acme', 'web', '${sessionId}', gen_random_uuid(), '${object.Key}', 0, 1, 1, 1, 1, 1, '', 'copied')`)
  expect(await run()).toMatchObject({ failed: 0 })
  expect(await keysBelow(below)).toEqual([])
  await expect(part(2)).rejects.toMatchObject({ name: 'NoSuchUpload' })
  expect(await cloud.rows(`select key from archive_objects where key like '${below}%'`)).toEqual([])
  expect(await cloud.rows(`select id from archive_segments where object_key like '${below}%'`)).toEqual([])
})

test.each(['database', 'bucket'] as const)(
  'where the %s is out of reach the run fails, and the next one goes on',
  async (down) => {
    const sessionId = await talk(cloud.as({ userId: `without ${down}` }), ['hello'])
    await age(sessionId, 40)
    cloud.proxy.decide = ({ service, operation, moment }) =>
      service === down && moment === 'before' && !operation.includes('list') && operation !== 'GET archive'
        ? { status: 500 }
        : 'pass'
    await expect(run()).rejects.toThrow()
    cloud.proxy.decide = passAll
    expect((await rowsOf(sessionId)).length).toBe(2)
    expect(await run()).toMatchObject({ failed: 0, isFinished: true })
    expect(await rowsOf(sessionId)).toEqual([])
  },
)
