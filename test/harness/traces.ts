/** Looks for a text in every store there is, as whoever broke in would. */

import { gunzipSync } from 'node:zlib'
import { DeleteObjectCommand, GetObjectCommand, paginateListObjectsV2, S3Client } from '@aws-sdk/client-s3'
import type { Turnkeep } from './turnkeep.ts'

const TABLES = "select tablename from pg_tables where schemaname = 'public'"

export const bucketOf = ({ cloud }: Turnkeep): S3Client =>
  new S3Client({
    region: 'us-east-1',
    endpoint: cloud.fauxqs.address,
    credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
  })

/** What stands behind a key of Valkey. Values above 1 KB are compressed there; the marker stands in shorter ones, too. */
const READ_BY: Record<string, (key: string) => string[]> = {
  string: (key) => ['GET', key],
  hash: (key) => ['HGETALL', key],
  list: (key) => ['LRANGE', key, '0', '-1'],
  set: (key) => ['SMEMBERS', key],
  zset: (key) => ['ZRANGE', key, '0', '-1'],
  stream: (key) => ['XRANGE', key, '-', '+'],
}

async function* rows(turnkeep: Turnkeep): AsyncGenerator<[string, string]> {
  for (const { tablename } of await turnkeep.rows<{ tablename: string }>(TABLES))
    for (const row of await turnkeep.rows(`select to_jsonb(t)::text as text from public.${tablename} t`))
      yield [`table ${tablename}`, String(row.text)]
}

async function* objects(s3: S3Client): AsyncGenerator<[string, string]> {
  for await (const page of paginateListObjectsV2({ client: s3 }, { Bucket: 'content' }))
    for (const { Key = '' } of page.Contents ?? []) {
      const { Body } = await s3.send(new GetObjectCommand({ Bucket: 'content', Key }))
      const bytes = Buffer.from((await Body?.transformToByteArray()) ?? [])
      const text = (Key.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString()
      yield [`object ${Key}`, Key + text]
    }
}

async function* cached({ redis }: Turnkeep): AsyncGenerator<[string, string]> {
  for (const key of (await redis?.keys('*')) ?? []) {
    const node = redis?.nodes[redis.nodeOf(key)]
    const read = READ_BY[String(await node?.admin('TYPE', key))]
    yield [`key ${key}`, key + JSON.stringify(read && (await node?.admin(...read(key))))]
  }
}

async function* elsewhere(turnkeep: Turnkeep): AsyncGenerator<[string, string]> {
  for (const name of ['turns', 'turns-dead', 'jobs', 'jobs-dead'])
    yield [`queue ${name}`, JSON.stringify(turnkeep.cloud.fauxqs.inspectQueue(name) ?? '')]
  yield ['logs', turnkeep.output()]
}

/** Each place in which it stands: all tables, all objects (unpacked), all keys of Valkey, all queues, all logs. */
export async function tracesOf(turnkeep: Turnkeep, s3: S3Client, marker: string): Promise<string[]> {
  const places = new Set<string>()
  for (const store of [rows(turnkeep), objects(s3), cached(turnkeep), elsewhere(turnkeep)])
    for await (const [place, text] of store) if (text.includes(marker)) places.add(place)
  return [...places]
}

/** Makes conversations as old as those that nobody has used for months, and runs the archiver. */
export async function archiveNow(turnkeep: Turnkeep, s3: S3Client, ...sessions: string[]): Promise<void> {
  const ids = sessions.map((id) => `'${id}'`).join()
  await turnkeep.rows(
    `update chat_sessions set last_active_at = now() - interval '90 days', created_at = now() - interval '91 days' where id in (${ids})`,
  )
  await turnkeep.rows(
    `update chat_messages set created_at = created_at - interval '90 days' where session_id in (${ids})`,
  )
  await turnkeep.rows(
    `update chat_turns set finished_at = now() - interval '2 days' where session_id in (${ids})`,
  )
  await s3.send(new DeleteObjectCommand({ Bucket: 'content', Key: 'archive/next-run.json' }))
  await turnkeep.cloud.runtimeApi.invoke('archive', '{}')
}
