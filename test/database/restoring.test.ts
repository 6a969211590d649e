/** Segments of an object are put back many at a time: what is wrong with one of them, or with its user, is its own affair. */
import { randomUUID } from 'node:crypto'
import { PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { v7 as uuidv7 } from 'uuid'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { manifestKeyOf, manifestOf, newObjectKey, pack } from '../../lambdas/ageing/archive-object.ts'
import { sha256Of } from '../../lambdas/ageing/segments.ts'
import type { Environment } from '../../ops/environment.ts'
import { type Archive, openArchive } from '../../ops/restore/archive.ts'
import { openRestoring, type Restoring } from '../../ops/restore/database.ts'
import { type Restored, restoreObject } from '../../ops/restore/restore-object.ts'
import { readTombstones } from '../../ops/restore/tombstones.ts'
import { startTestArchive, type TestArchive } from '../harness/archive.ts'
import { onBothEngines } from '../harness/database.ts'

type Line = Record<string, unknown> & { id: string; session_id: string; content: string }

const LARGE = '큰 글 😀 "quoted" \\ '.repeat(4_000)
const HASH = `anon_${'0'.repeat(32)}`

onBothEngines('a restore', (engine) => {
  let files: TestArchive
  let archive: Archive
  let database: Restoring
  let s3: S3Client
  let stop: AbortController
  let tenant = { companyId: '', platform: 'web' }
  beforeAll(async () => {
    files = await startTestArchive(engine, 'restoring')
    const credentials = { accessKeyId: 'local', secretAccessKey: 'local' }
    s3 = new S3Client({ region: 'us-east-1', credentials, forcePathStyle: true })
  })
  afterAll(async () => {
    s3.destroy()
    await files.close()
  })
  beforeEach(() => {
    tenant = { companyId: `company ${randomUUID()}`, platform: 'web' }
    begin()
  })
  /** As the command does: one that was interrupted asks for nothing more. */
  function begin(): void {
    stop = new AbortController()
    const environment: Environment = {
      title: 'a test',
      isLocal: true,
      values: {
        CONTENT_BUCKET: 'content',
        DATABASE_CLUSTER_ARN: 'arn:aws:rds:us-east-1:000000000000:cluster:turnkeep',
        DATABASE_SECRET_ARN: 'arn:aws:secretsmanager:us-east-1:000000000000:secret:turnkeep-app',
        DATABASE_NAME: 'turnkeep',
      },
      reach: () => ({
        region: 'us-east-1',
        requestHandler: { connectionTimeout: 3_000, requestTimeout: 15_000 },
      }),
    }
    archive = openArchive(environment, stop.signal)
    database = openRestoring(environment, stop.signal)
  }

  const sql = <Row = Record<string, unknown>>(text: string) =>
    files.database.inTenant<Row>(tenant.companyId, text)
  const contents = async () =>
    (
      await sql<{ content: string }>('select content from chat_messages order by session_id, sequence_number')
    ).map(({ content }) => content)
  const counts = () => sql('select user_id, message_count from chat_sessions order by id')

  /** Lines of one session, as the archiver writes them. */
  function session(texts: string[], changes: Record<string, unknown> = {}): Line[] {
    const id = uuidv7()
    const at = '2026-01-02T03:04:05.678901+00:00'
    return texts.map((content, index) => ({
      id: uuidv7(),
      company_id: tenant.companyId,
      platform: 'web',
      session_id: id,
      thread_id: 'main',
      role: index % 2 === 0 ? 'user' : 'assistant',
      content,
      status: 'complete',
      sources: [],
      metadata: {},
      sequence_number: index + 1,
      is_deleted: false,
      created_at: at,
      updated_at: at,
      saved_at: at,
      user: HASH,
      ...changes,
    }))
  }

  /** An object with these segments; `damaged`: bytes of this one are not what was written. */
  async function written(segments: Line[][], { damaged = -1 } = {}): Promise<string> {
    const key = newObjectKey(tenant)
    let bytes = Buffer.alloc(0)
    const listed = segments.map((lines, index) => {
      const packed = pack(Buffer.from(lines.map((line) => `${JSON.stringify(line)}\n`).join('')))
      const place = {
        object_key: key,
        session_id: lines[0]?.session_id ?? '',
        byte_offset: bytes.length,
        byte_length: packed.bytes.length,
        text_bytes: packed.textBytes,
        messages: lines.length,
        sha256: packed.sha256,
        first_sequence: 1,
        last_sequence: lines.length,
      }
      bytes = Buffer.concat([bytes, index === damaged ? Buffer.alloc(packed.bytes.length, 1) : packed.bytes])
      return place
    })
    const manifest = manifestOf(tenant, {
      key,
      bytes: bytes.length,
      sha256: sha256Of(bytes),
      messages: segments.flat().length,
      segments: listed,
    })
    for (const [Key, Body] of [
      [key, bytes],
      [manifestKeyOf(key), manifest],
    ] as const)
      await s3.send(new PutObjectCommand({ Bucket: 'content', Key, Body }))
    return key
  }

  async function restored(key: string, services = { archive, database }): Promise<Restored> {
    const object = { key, tenant }
    const found = {
      object,
      manifest: await archive.manifest(object),
      tombstones: await readTombstones(archive, tenant),
    }
    return restoreObject(services, found, {}, stop.signal)
  }
  const outcomes = (some: Partial<Restored['outcomes']>) => ({
    restored: 0,
    replaced: 0,
    present: 0,
    erased: 0,
    ...some,
  })
  const objectsKnown = () => sql('select key from archive_objects')

  test('reads neighbours at once, and puts back all of them by one call', async () => {
    const segments = [session(['안녕 😀', '"quoted" \\ \t']), session(['둘']), session(['셋', LARGE])]
    const large = segments[2]?.[1] as Line
    large.content_key = `content/${large.id}`
    const key = await written(segments)
    const calls: string[] = []
    const counting = {
      archive: {
        ...archive,
        range: (...args: Parameters<Archive['range']>) => {
          calls.push('range')
          return archive.range(...args)
        },
      },
      database: {
        ...database,
        put: (...args: Parameters<Restoring['put']>) => {
          calls.push('put')
          return database.put(...args)
        },
      },
    }
    expect(await restored(key, counting)).toEqual({ outcomes: outcomes({ restored: 5 }), failed: [] })
    expect(calls).toEqual(['range', 'put'])
    expect(await contents()).toEqual(['안녕 😀', '"quoted" \\ \t', '둘', '셋', ''])
    expect(await files.bucket.get(`content/${large.id}`)).toBe(LARGE)
    expect(await counts()).toEqual([2, 1, 2].map((message_count) => ({ user_id: HASH, message_count })))
    expect(await objectsKnown()).toEqual([{ key }])
    expect(await restored(key)).toEqual({ outcomes: outcomes({ present: 5 }), failed: [] })
    expect(await counts()).toEqual([2, 1, 2].map((message_count) => ({ user_id: HASH, message_count })))
  })

  test('passes over a damaged segment between good ones', async () => {
    const key = await written([session(['앞']), session(['망가진 것']), session(['뒤'])], { damaged: 1 })
    const { outcomes: put, failed } = await restored(key)
    expect(put).toEqual(outcomes({ restored: 2 }))
    expect(failed).toEqual([expect.stringMatching(/^The segment at \d+ of .* is altered\.$/)])
    expect(await contents()).toEqual(['앞', '뒤'])
    expect(await objectsKnown()).toEqual([])
  })

  test.each([{ status: 'no such status' }, { company_id: 'somebody else' }])(
    'keeps back the segment alone that Postgres refuses: %j',
    async (changes) => {
      const refused = session(['거절될 것'], changes)
      const key = await written([session(['앞']), refused, session(['뒤', '끝'])])
      const { outcomes: put, failed } = await restored(key)
      expect(put).toEqual(outcomes({ restored: 3 }))
      expect(failed).toEqual([expect.stringContaining(key)])
      expect(failed.join()).not.toContain('거절될')
      expect(await contents()).toEqual(['앞', '뒤', '끝'])
      expect(await objectsKnown()).toEqual([])
    },
  )

  test('leaves away what was erased, by session, by user and by hash, among others', async () => {
    const owned = session(['주인이 지워진 것'])
    const later = session(['지워진 뒤의 것'], {
      created_at: '2026-03-01T00:00:00+00:00',
      user: `anon_${'1'.repeat(32)}`,
    })
    const hashed = session(['해시가 지워진 것'], { user: `anon_${'1'.repeat(32)}` })
    const gone = session(['없어진 대화'])
    const kept = session(['남는 것'])
    const job = randomUUID()
    const cell = (text: string) => `('${tenant.companyId}', 'web', ${text})`
    await sql(`insert into chat_sessions (company_id, platform, id, user_id, expires_at)
      values ${cell(`'${owned[0]?.session_id}', 'u1', now()`)}`)
    await sql(`insert into erasures (company_id, platform, user_id, cutoff, job_id)
      values ${cell(`'u1', '2026-02-01', '${job}'`)}, ${cell(`'anon_${'1'.repeat(32)}', '2026-02-01', '${job}'`)}`)
    await sql(`insert into erased_sessions (company_id, platform, session_id, job_id)
      values ${cell(`'${gone[0]?.session_id}', '${job}'`)}`)
    const key = await written([owned, kept, hashed, later, gone])
    expect(await restored(key)).toEqual({ outcomes: outcomes({ restored: 2, erased: 3 }), failed: [] })
    expect((await contents()).sort()).toEqual(['남는 것', '지워진 뒤의 것'])
    expect(await sql('select state from archive_segments')).toEqual(Array(5).fill({ state: 'copied' }))
  })

  test('says of each message of a batch what became of it, and counts what is new', async () => {
    const all = session(['같은 것', '새 판', '옛 판', '지워진 것', '떠난 것', '새것'])
    const [same, newer, older, deleted, left] = all as [Line, Line, Line, Line, Line]
    const at = (line: Line, month: number, changes = {}) => ({
      ...line,
      updated_at: `2026-${month}-01T00:00:00+00:00`,
      ...changes,
    })
    await restored(await written([[same, newer, at(older, 12), at(deleted, 10)]]))
    await sql(`insert into archived_messages (company_id, platform, id, segment_id, session_id)
      values ('${tenant.companyId}', 'web', '${left.id}', '${randomUUID()}', '${left.session_id}')`)
    expect(await counts()).toMatchObject([{ message_count: 4 }])
    const key = await written([
      all.map((line) =>
        line === newer
          ? at(newer, 11, { content: '더 새 판' })
          : line === deleted
            ? at(deleted, 11, { is_deleted: true, content: '' })
            : line,
      ),
    ])
    expect(await restored(key)).toMatchObject({
      outcomes: { restored: 2, replaced: 2, present: 2 },
      failed: [],
    })
    expect(await contents()).toEqual(['같은 것', '더 새 판', '옛 판', '', '떠난 것', '새것'])
    expect(await counts()).toMatchObject([{ message_count: 4 - 1 + 1 }])
  })

  test('puts the newer copy of a message first that lies elsewhere, in a batch of others', async () => {
    const [first, second] = [session(['옛것', '그대로']), session(['둘째'])]
    const newer = first
      .map((line) => ({ ...line, content: '새것', updated_at: '2026-05-01T00:00:00+00:00' }))
      .slice(0, 1)
    const elsewhere = await written([session(['남의 것']), newer])
    await restored(elsewhere)
    await sql('delete from chat_messages')
    const key = await written([second, first])
    expect(await restored(key)).toEqual({ outcomes: outcomes({ restored: 2, present: 1 }), failed: [] })
    expect((await contents()).sort()).toEqual(['그대로', '둘째', '새것'])
  })

  test('of a conversation across two objects counts each message once, whichever comes first', async () => {
    const all = session(['하나', '둘', '셋', '넷'])
    const [first, second] = [
      await written([all.slice(0, 2)]),
      await written([session(['사이']), all.slice(2)]),
    ]
    for (const key of [second, first, second]) await restored(key)
    expect(await contents()).toEqual(['하나', '둘', '셋', '넷', '사이'])
    expect((await counts()).map(({ message_count }) => message_count)).toEqual([4, 1])
  })

  test('that is interrupted between batches tells Postgres of no object, and goes on the next time', async () => {
    const sessions = Array.from({ length: 60 }, () => session(Array(25).fill('말')))
    const key = await written(sessions)
    let puts = 0
    const interrupting: Restoring = {
      ...database,
      async put(...args) {
        if (++puts === 2) stop.abort()
        return database.put(...args)
      },
    }
    const part = await restored(key, { archive, database: interrupting })
    expect(part).toEqual({ outcomes: outcomes({ restored: part.outcomes.restored }), failed: [] })
    expect((await contents()).length).toBeLessThan(1_500)
    expect(await objectsKnown()).toEqual([])
    begin()
    const again = await restored(key)
    expect(again.failed).toEqual([])
    expect(again.outcomes.restored + again.outcomes.present).toBe(1_500)
    expect((await contents()).length).toBe(1_500)
    expect(await counts()).toEqual(Array(60).fill({ user_id: HASH, message_count: 25 }))
    expect(await objectsKnown()).toEqual([{ key }])
  })
})
