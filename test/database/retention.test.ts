/** What has had its time goes, and nothing else does: Postgres, the bucket and the archive together. */
import { v7 as uuidv7 } from 'uuid'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { pseudonymOf } from '../../lambdas/ageing/pseudonym.ts'
import { retain } from '../../lambdas/ageing/retention.ts'
import { stowText } from '../../lambdas/messages/large-text.ts'
import { leaveFeedback, listMessages } from '../../lambdas/messages/messages.ts'
import type { Caller } from '../../lambdas/protocol/callers.ts'
import type { Metric } from '../../lambdas/protocol/metrics.ts'
import type { MessageRecord } from '../../lambdas/protocol/queue.ts'
import type { Database } from '../../lambdas/services/database.ts'
import { oldConversation, PSEUDONYM_KEY, startTestArchive, type TestArchive } from '../harness/archive.ts'
import { onBothEngines } from '../harness/database.ts'
import { record } from '../harness/records.ts'

const ADMIN = { jsonb: { user_id: 'admin', role: 'admin' } }
const PLENTY = () => 900_000

onBothEngines('retention', (engine) => {
  let archive: TestArchive
  let count = 0
  let counted: Metric[] = []
  beforeAll(async () => {
    archive = await startTestArchive(engine, 'retention')
  })
  afterAll(() => archive.close())

  /** Each test has a company of its own. */
  const company = () => {
    count += 1
    counted = []
    return { companyId: `company ${count}`, platform: 'web' }
  }
  type Company = ReturnType<typeof company>
  const rows = <Row = Record<string, unknown>>({ companyId }: Company, sql: string) =>
    archive.database.inTenant<Row>(companyId, sql)
  const services = () => ({
    database: archive.database.app,
    bucket: archive.bucket,
    pseudonymKey: async () => PSEUDONYM_KEY,
    count: (metric: Metric) => void counted.push(metric),
  })
  const run = (tenant: Company, timeLeft = PLENTY) => retain(services(), tenant, timeLeft)
  const caller = (tenant: Company): Caller => ({ ...tenant, userId: 'u1', role: 'user' })
  const shown = async (tenant: Company, of: MessageRecord | undefined) => {
    const list = await listMessages(services(), caller(tenant), of?.session_id ?? '', {
      limit: 100,
      order: 'asc',
    })
    return list.items.map(({ messageId }) => messageId)
  }
  /** Brings it back, where it has left. */
  const rate = (tenant: Company, of: MessageRecord | undefined) =>
    leaveFeedback(services(), caller(tenant), of?.id ?? '', { score: 4 })
  const due = async (tenant: Company) =>
    Object.fromEntries(
      (await archive.database.app.callFor<{ kind: string; rows: number }>(tenant, 'retention_due', [])).map(
        ({ kind, rows }) => [kind, rows],
      ),
    )
  const keep = (tenant: Company, retentionDays: number) =>
    archive.database.app.callFor(tenant, 'change_tenant', [
      ADMIN,
      { jsonb: { retentionDays } },
      { integer: null },
    ])
  const saved = async (tenant: Company, length: number, days: number, user_id = 'u1') => {
    const records = oldConversation(length, days, { company_id: tenant.companyId, user_id })
    await archive.save(records)
    return records
  }
  const aged = (tenant: Company, id: string | undefined, days: number) =>
    rows(
      tenant,
      `update chat_sessions set last_active_at = now() - interval '${days} days', created_at = now() - interval '${days} days' where id = '${id}'`,
    )
  /** A conversation that is used on and on, with a long answer, written 133 days ago, that has left. */
  const longTalk = async (tenant: Company) => {
    const talk = oldConversation(4, 133, { company_id: tenant.companyId })
    talk[1] = await stowText(archive.bucket, {
      ...(talk[1] as MessageRecord),
      content: '큰 글 '.repeat(20_000),
    })
    await archive.save(talk)
    await rows(tenant, 'update chat_sessions set last_active_at = now()')
    await archive.run(tenant.companyId)
    await objectsAge(tenant, 30)
    return talk
  }
  /** Days go by for what has been written to the archive. */
  const objectsAge = async (tenant: Company, days: number) => {
    for (const table of ['archive_objects', 'archive_segments'])
      await rows(tenant, `update ${table} set created_at = created_at - interval '${days} days'`)
  }

  test('of a tenant that has nothing, or nothing that is due, does nothing', async () => {
    const tenant = company()
    await saved(tenant, 4, 200)
    const before = await rows(tenant, 'select * from chat_messages')
    expect(await run(tenant)).toEqual({
      sessions: 0,
      messages: 0,
      archiveObjects: 0,
      hidden: 0,
      auditLines: 0,
      isFinished: true,
    })
    expect(await rows(tenant, 'select * from chat_messages')).toEqual(before)
  })

  test('purges what was deleted 30 days ago, with its texts, and keeps what was deleted since', async () => {
    const tenant = company()
    const large = await stowText(
      archive.bucket,
      record({ company_id: tenant.companyId, content: '큰 글 😀'.repeat(10_000) }),
    )
    await archive.save([large])
    const [first, second, third, fourth] = await saved(tenant, 4, 50)
    const kept = await saved(tenant, 2, 50)
    const delete_ = (id: string | undefined, days: number) =>
      rows(
        tenant,
        `update chat_messages set is_deleted = true, deleted_at = now() - interval '${days} days' where id = '${id}'`,
      )
    await delete_(first?.id, 31)
    await delete_(second?.id, 29)
    await rows(
      tenant,
      `update chat_sessions set deleted_at = now() - interval '31 days' where id = '${large.session_id}'`,
    )
    await rows(
      tenant,
      `update chat_sessions set deleted_at = now() - interval '29 days' where id = '${kept[0]?.session_id}'`,
    )
    expect(await due(tenant)).toMatchObject({ deletedSessions: 1, deletedMessages: 1 })
    expect(await run(tenant)).toMatchObject({ sessions: 1, messages: 1, isFinished: true })
    const left = (await rows<{ id: string }>(tenant, `select id from chat_messages where content <> ''`)).map(
      ({ id }) => id,
    )
    expect(new Set(left)).toEqual(new Set([second?.id, third?.id, fourth?.id, ...kept.map(({ id }) => id)]))
    // Its place stays, for those that follow it.
    expect(
      await rows(
        tenant,
        `select id, is_deleted, deleted_at, metadata, sources from chat_messages where content = ''`,
      ),
    ).toEqual([{ id: first?.id, is_deleted: true, deleted_at: null, metadata: {}, sources: [] }])
    expect(await archive.bucket.get(large.content_key ?? '')).toBeUndefined()
    // A late copy does not bring it back.
    await archive.save([large])
    expect(await rows(tenant, `select 1 from chat_messages where id = '${large.id}'`)).toEqual([])
  })

  test('purges a long text that was deleted shortly before its conversation left', async () => {
    const tenant = company()
    const talk = await saved(tenant, 4, 40)
    const [, deleted] = talk
    const text = `content/${encodeURIComponent(tenant.companyId)}/web/${deleted?.id}/large`
    await archive.bucket.put(text, 'large')
    await rows(
      tenant,
      `update chat_messages set content = '', content_key = '${text}', is_deleted = true, deleted_at = now() - interval '12 days',
         updated_at = now() where id = '${deleted?.id}'`,
    )
    expect(await archive.run(tenant.companyId)).toMatchObject({ messages: 3, failed: 0, isFinished: true })
    const copies = await archive.copies(tenant.companyId)
    expect(copies.map(({ id }) => id)).not.toContain(deleted?.id)
    expect(await rows(tenant, 'select id from chat_messages')).toEqual([{ id: deleted?.id }])
    // What is left is nothing to be awake for.
    const again = await archive.run(tenant.companyId)
    expect(again).toMatchObject({ messages: 0, bytes: 0 })
    expect(again.dueInSeconds).toBeGreaterThan(0)
    await rows(tenant, `update chat_messages set deleted_at = now() - interval '31 days'`)
    expect(await run(tenant)).toMatchObject({ messages: 1 })
    expect(await rows(tenant, 'select id, content_key from chat_messages')).toEqual([
      { id: deleted?.id, content_key: null },
    ])
    expect(await archive.bucket.get(text)).toBeUndefined()
    expect(await archive.copies(tenant.companyId)).toEqual(copies)
    // Empty as it is it leaves, too.
    expect(await archive.run(tenant.companyId)).toMatchObject({ messages: 1, failed: 0 })
    expect(await rows(tenant, 'select id from chat_messages')).toEqual([])
  })

  test('removes what a tenant keeps no longer, from Postgres and from the archive', async () => {
    const tenant = company()
    const [unused] = await saved(tenant, 4, 120)
    await saved(tenant, 4, 80)
    await archive.run(tenant.companyId)
    const [active] = await saved(tenant, 2, 100)
    await aged(tenant, active?.session_id, 0)
    await keep(tenant, 90)
    expect(await due(tenant)).toMatchObject({ overdueSessions: 1, overdueMessages: 2 })
    const before = await archive.copies(tenant.companyId)
    expect(await run(tenant)).toMatchObject({ sessions: 1, messages: 2, isFinished: true })
    expect(await rows(tenant, `select 1 from chat_sessions where id = '${unused?.session_id}'`)).toEqual([])
    expect(await rows(tenant, 'select 1 from chat_messages')).toEqual([])
    expect(await archive.copies(tenant.companyId)).toEqual(
      before.filter(({ session_id }) => session_id !== unused?.session_id),
    )
    expect(await due(tenant)).toMatchObject({ overdueSessions: 0, archiveObjects: 0 })
    // And an object of which everything is older goes as a whole.
    await rows(tenant, `update archive_objects set created_at = now() - interval '91 days'`)
    expect(await run(tenant)).toMatchObject({ archiveObjects: 1, messages: 4 })
    expect(await archive.segments(tenant.companyId)).toEqual([])
    for await (const keys of archive.bucket.list(`archive/${encodeURIComponent(tenant.companyId)}`))
      expect(keys).toEqual([])
  })

  test('knows how old an object is that was written again since', async () => {
    const tenant = company()
    const [purged] = await saved(tenant, 2, 80)
    const [active] = await saved(tenant, 2, 80)
    await archive.run(tenant.companyId)
    await rows(tenant, `update archive_objects set created_at = now() - interval '91 days'`)
    await aged(tenant, active?.session_id, 0)
    await rows(
      tenant,
      `update chat_sessions set deleted_at = now() - interval '31 days' where id = '${purged?.session_id}'`,
    )
    await run(tenant)
    expect(await archive.copies(tenant.companyId)).toHaveLength(2)
    await keep(tenant, 90)
    expect(await run(tenant)).toMatchObject({ archiveObjects: 1, messages: 2 })
    expect(await archive.segments(tenant.companyId)).toEqual([])
  })

  test('passes over an object of which others cannot be read any more, counts it, and does the rest', async () => {
    const tenant = company()
    const [purged] = await saved(tenant, 2, 400)
    await saved(tenant, 2, 400)
    await archive.run(tenant.companyId)
    const [segment] = await archive.segments(tenant.companyId)
    await archive.bucket.put(segment?.object_key ?? '', 'altered')
    await rows(
      tenant,
      `update chat_sessions set deleted_at = now() - interval '40 days' where id = '${purged?.session_id}'`,
    )
    await rows(
      tenant,
      `insert into audit_log (company_id, platform, at, actor_id, actor_role, action)
       values ('${tenant.companyId}', 'web', now() - interval '400 days', 'a', 'admin', 'old')`,
    )
    expect(await run(tenant)).toMatchObject({ isFinished: true, auditLines: 1 })
    expect(counted).toEqual(['ArchiveUnreadable'])
    expect((await archive.segments(tenant.companyId)).map(({ object_key }) => object_key)).toEqual(
      Array(2).fill(segment?.object_key),
    )
    // And other tenants' runs do not end because of it.
    expect(await archive.run(tenant.companyId)).toMatchObject({ failed: 0 })
  })

  test('removes what has had its time also where it cannot be read, with the texts that stand beside it', async () => {
    const tenant = company()
    const [question] = await saved(tenant, 1, 400)
    const text = `content/${encodeURIComponent(tenant.companyId)}/web/${question?.id}/large`
    await archive.bucket.put(text, 'large')
    await rows(
      tenant,
      `update chat_messages set content = '', content_key = '${text}', updated_at = updated_at`,
    )
    await archive.run(tenant.companyId)
    const [segment] = await archive.segments(tenant.companyId)
    await archive.bucket.put(segment?.object_key ?? '', 'altered')
    await rows(tenant, `update archive_objects set created_at = now() - interval '40 days'`)
    await rows(tenant, `update chat_sessions set last_active_at = now()`)
    await keep(tenant, 39)
    expect(await run(tenant)).toMatchObject({ isFinished: true, archiveObjects: 1 })
    expect(counted).toEqual([])
    expect(await archive.segments(tenant.companyId)).toEqual([])
    expect(await archive.bucket.get(text)).toBeUndefined()
  })

  test('leaves a long text to the row that its message is again, and to a copy that is newer', async () => {
    for (const leavesAgain of [false, true]) {
      const tenant = company()
      const talk = await longTalk(tenant)
      await rate(tenant, talk[1])
      if (leavesAgain) expect(await archive.run(tenant.companyId)).toMatchObject({ messages: 1 })
      await objectsAge(tenant, 71)
      await keep(tenant, 100)
      const { app } = archive.database
      const mortal: Database = {
        ...app,
        callFor: async (...call) => {
          if (call[1] === 'drop_overdue_object') throw new Error('killed')
          return (await app.callFor(...call)) as never
        },
      }
      await expect(retain({ ...services(), database: mortal }, tenant, PLENTY)).rejects.toThrow('killed')
      expect(await archive.bucket.get(talk[1]?.content_key ?? '')).toBeDefined()
      expect(await shown(tenant, talk[0])).toEqual(talk.map(({ id }) => id))
      expect(await run(tenant)).toMatchObject({ archiveObjects: 1, messages: 4 })
      expect(await shown(tenant, talk[0])).toEqual([])
      expect(await archive.bucket.get(talk[1]?.content_key ?? '')).toBeUndefined()
    }
  })

  test('removes a row with the object that has its last copy, and its long text', async () => {
    const tenant = company()
    const talk = await longTalk(tenant)
    await rate(tenant, talk[1])
    await objectsAge(tenant, 71)
    await keep(tenant, 100)
    expect(await due(tenant)).toMatchObject({ overdueMessages: 1, archivedMessages: 3, archiveObjects: 1 })
    expect(await run(tenant)).toMatchObject({ archiveObjects: 1, messages: 4 })
    expect(await shown(tenant, talk[0])).toEqual([])
    expect(await archive.bucket.get(talk[1]?.content_key ?? '')).toBeUndefined()
    expect(await rows(tenant, 'select message_count from chat_sessions')).toEqual([{ message_count: 0 }])
  })

  test('removes what came back and left again with the object that had it first, and nothing else of the other', async () => {
    const tenant = company()
    const talk = await longTalk(tenant)
    for (const message of [talk[1], talk[2]]) await rate(tenant, message)
    const others = await saved(tenant, 2, 40)
    await archive.run(tenant.companyId)
    // The younger one is not; one message of it is a row once more.
    await rate(tenant, talk[2])
    await rows(tenant, 'update chat_sessions set last_active_at = now()')
    await rows(
      tenant,
      `update archive_objects set created_at = now() - interval '101 days' where messages = 4 and created_at < now() - interval '1 day'`,
    )
    await keep(tenant, 100)
    expect(await archive.copies(tenant.companyId)).toHaveLength(6)
    expect(await due(tenant)).toMatchObject({ overdueMessages: 1, archivedMessages: 3, archiveObjects: 1 })
    const { app } = archive.database
    let calls = 0
    const mortal: Database = {
      ...app,
      callFor: async (...call) => {
        calls += 1
        const rows = await app.callFor(...call)
        if (calls > last) throw new Error('killed')
        return rows as never
      },
    }
    let last = 0
    for (; ; last += 1) {
      calls = 0
      const ended = await retain({ ...services(), database: mortal }, tenant, PLENTY).catch(() => undefined)
      const ids = await shown(tenant, talk[0])
      expect([[], talk.map(({ id }) => id)]).toContainEqual(ids)
      if (ended !== undefined) break
    }
    expect(await shown(tenant, talk[0])).toEqual([])
    expect(await shown(tenant, others[0])).toEqual(others.map(({ id }) => id))
    expect((await archive.copies(tenant.companyId)).map(({ id }) => id).sort()).toEqual(
      others.map(({ id }) => id).sort(),
    )
    expect(await rows(tenant, 'select id from chat_messages')).toEqual([])
    expect(await archive.bucket.get(talk[1]?.content_key ?? '')).toBeUndefined()
    expect(
      await rows(tenant, `select message_count from chat_sessions where id = '${talk[0]?.session_id}'`),
    ).toEqual([{ message_count: 0 }])
  })

  test('hides what left again for an object that is damaged elsewhere, and leaves what is damaged itself', async () => {
    for (const damaged of ['other', 'own']) {
      const tenant = company()
      const talk = await longTalk(tenant)
      await rate(tenant, talk[2])
      const [other] = await saved(tenant, 2, 40)
      await archive.run(tenant.companyId)
      await objectsAge(tenant, 71)
      await rows(tenant, 'update chat_sessions set last_active_at = now()')
      await keep(tenant, 100)
      const [older, ...younger] = (await archive.segments(tenant.companyId)).sort(
        (a, b) => b.messages - a.messages,
      )
      expect([older?.messages, younger.length]).toEqual([4, 2])
      const broken = younger.find(
        ({ session_id }) => (session_id === other?.session_id) === (damaged === 'other'),
      )
      await rows(tenant, `update archive_segments set sha256 = 'altered' where id = '${broken?.id}'`)
      expect(await run(tenant)).toMatchObject({ isFinished: true, archiveObjects: 1, messages: 3 })
      expect(counted).toEqual(['ArchiveUnreadable'])
      expect(await rows(tenant, 'select id, is_deleted from chat_messages')).toEqual(
        damaged === 'other' ? [{ id: talk[2]?.id, is_deleted: true }] : [],
      )
      await rows(
        tenant,
        `update archive_segments set sha256 = '${broken?.sha256}' where id = '${broken?.id}'`,
      )
      expect(await run(tenant)).toMatchObject({ messages: damaged === 'other' ? 1 : 0 })
      expect(await shown(tenant, talk[0])).toEqual(damaged === 'other' ? [] : [talk[2]?.id])
      expect(await shown(tenant, other)).toHaveLength(2)
    }
  })

  test('removes a title with the question that it was made of, and leaves one that somebody gave to the rows', async () => {
    const tenant = company()
    const titled = async (title: string) => {
      const [question, answer] = oldConversation(2, 120, { company_id: tenant.companyId })
      const asked = {
        ...(question as MessageRecord),
        content: 'secret words',
        on_save: { count: true as const, title },
      }
      await archive.save([asked, answer as MessageRecord])
      return asked.session_id
    }
    await titled('secret words')
    await archive.run(tenant.companyId)
    await objectsAge(tenant, 91)
    await rows(tenant, 'update chat_sessions set last_active_at = now()')
    await keep(tenant, 90)
    await titled('secret words')
    await titled('given')
    await rows(tenant, 'update chat_sessions set last_active_at = now()')
    expect(await run(tenant)).toMatchObject({ messages: 6, archiveObjects: 1 })
    expect(await rows(tenant, 'select title from chat_sessions order by title')).toEqual([
      { title: 'given' },
      { title: null },
      { title: null },
    ])
  })

  test('does what it says before that it would, of a tenant that has some of everything', async () => {
    const tenant = company()
    const ago = (days: number) => `now() - interval '${days} days'`
    const session = (id: string | undefined, set: string) =>
      rows(tenant, `update chat_sessions set ${set} where id = '${id}'`)
    const talk = async (length: number, days: number, user: string, used: number) => {
      const records = await saved(tenant, length, days, user)
      await session(records[0]?.session_id, `last_active_at = ${ago(used)}, created_at = ${ago(days)}`)
      return records
    }
    // What has left: a conversation that is over, and one that is in use, of which a message came back and one was deleted then.
    await talk(6, 700, 'over', 700)
    const [used] = await talk(6, 600, 'used', 10)
    await archive.run(tenant.companyId)
    await rows(tenant, `update archive_objects set created_at = ${ago(550)}`)
    const copies = (await archive.copies(tenant.companyId)).filter(
      ({ session_id }) => session_id === used?.session_id,
    )
    const back = copies.slice(0, 2)
    const [places] = await rows<{ places: Record<string, string> }>(
      tenant,
      'select jsonb_object_agg(id, segment_id) as places from archived_messages',
    )
    await archive.database.app.callFor(tenant, 'thaw_messages', [
      { text: JSON.stringify(back.map((row) => ({ segment_id: places?.places[row.id], row }))) },
    ])
    await rows(
      tenant,
      `update chat_messages set is_deleted = true, deleted_at = ${ago(31)} where id = '${back[0]?.id}'`,
    )
    // Never archived: deleted, deleted long ago, with deleted messages, too old, of somebody who is away.
    const [purged] = await talk(4, 600, 'purged', 100)
    await session(purged?.session_id, `deleted_at = ${ago(20)}`)
    const [gone] = await talk(3, 100, 'gone', 90)
    await session(gone?.session_id, `deleted_at = ${ago(40)}`)
    const deleted = await talk(4, 100, 'deletes', 90)
    await rows(
      tenant,
      `update chat_messages set is_deleted = true, deleted_at = ${ago(31)} where id in ('${deleted[1]?.id}', '${deleted[2]?.id}')`,
    )
    await talk(4, 520, 'writes', 1)
    await talk(4, 400, 'away', 400)
    await talk(2, 600, 'away too, and over', 600)
    await keep(tenant, 500)
    // Usage of long ago names its users, too.
    const hidden = async () =>
      (
        await rows(
          tenant,
          `select s.user_id from (select user_id from chat_sessions union select user_id from usage_daily) s where s.user_id like 'anon_%'`,
        )
      ).length
    const hiddenBefore = await hidden()
    const before = await due(tenant)
    const { isFinished, ...done } = await run(tenant)
    const sum = (...kinds: string[]) => kinds.reduce((total, kind) => total + (before[kind] ?? 0), 0)
    expect(isFinished).toBe(true)
    expect([done.sessions, done.messages, done.archiveObjects, done.auditLines]).toEqual([
      sum('deletedSessions', 'overdueSessions'),
      sum('deletedMessages', 'overdueMessages', 'archivedMessages'),
      sum('archiveObjects'),
      sum('auditLines'),
    ])
    expect(before).toMatchObject({
      deletedSessions: 1,
      overdueSessions: 2,
      archiveObjects: 1,
      usersToHide: 4,
    })
    expect((await hidden()) - hiddenBefore).toBe(before.usersToHide)
  })

  test('puts a hash in the place of a user who was not here for a year, and of nobody else', async () => {
    const tenant = company()
    const [old] = await saved(tenant, 2, 400, 'long ago')
    const [recent] = await saved(tenant, 2, 300, 'long ago')
    const totals = "select day, turns, completion_tokens from usage_daily where user_id = '' order by day"
    const before = await rows(tenant, totals)
    expect(await due(tenant)).toMatchObject({ usersToHide: 1 })
    expect((await run(tenant)).hidden).toBeGreaterThan(0)
    const pseudonym = pseudonymOf(PSEUDONYM_KEY, tenant, 'long ago')
    expect(await rows(tenant, 'select id, user_id from chat_sessions order by last_active_at')).toEqual([
      { id: old?.session_id, user_id: pseudonym },
      { id: recent?.session_id, user_id: 'long ago' },
    ])
    expect(
      await rows(
        tenant,
        `select distinct user_id from usage_daily where day < now() - interval '1 year' and user_id <> ''`,
      ),
    ).toEqual([{ user_id: pseudonym }])
    expect(await rows(tenant, totals)).toEqual(before)
    expect(await run(tenant)).toMatchObject({ hidden: 0 })
    expect(await due(tenant)).toMatchObject({ usersToHide: 0 })
  })

  test('hides a user whose key stands under the hash already', async () => {
    const tenant = company()
    const pseudonym = pseudonymOf(PSEUDONYM_KEY, tenant, 'back')
    const keys = { [pseudonym]: '800 days', back: '400 days', here: '1 day' }
    for (const [userId, age] of Object.entries(keys))
      await rows(
        tenant,
        `insert into idempotency_keys (company_id, platform, user_id, key, body_hash, session_id, user_message_id, message_id, created_at)
         values ('${tenant.companyId}', 'web', '${userId}', 'one', 'hash of ${age}', '${uuidv7()}', '${uuidv7()}', '${uuidv7()}', now() - interval '${age}')`,
      )
    expect(await run(tenant)).toMatchObject({ isFinished: true })
    expect(await rows(tenant, 'select user_id, body_hash from idempotency_keys order by created_at')).toEqual(
      [
        { user_id: pseudonym, body_hash: 'hash of 800 days' },
        { user_id: 'here', body_hash: 'hash of 1 day' },
      ],
    )
    expect(await run(tenant)).toMatchObject({ hidden: 0, isFinished: true })
  })

  test('removes lines of the audit log that are older than a year, and no others', async () => {
    const tenant = company()
    for (const days of [1, 364, 366, 900])
      await rows(
        tenant,
        `insert into audit_log (company_id, platform, at, actor_id, actor_role, action)
         values ('${tenant.companyId}', 'web', now() - interval '${days} days', 'a', 'admin', 'after ${days}')`,
      )
    expect(await due(tenant)).toMatchObject({ auditLines: 2 })
    expect(await run(tenant)).toMatchObject({ auditLines: 2 })
    expect(await rows(tenant, 'select action from audit_log order by at')).toEqual([
      { action: 'after 364' },
      { action: 'after 1' },
    ])
  })

  test('forgets turns that are saved where nothing is saved any more, and no others', async () => {
    const tenant = company()
    const [question, answer] = await saved(tenant, 2, 200)
    const turn = (message: string | undefined, ended: string) =>
      rows(
        tenant,
        `insert into chat_turns (company_id, platform, message_id, question_id, session_id, thread_id, user_id, state,
           lease_until, answer, sequence_number, finished_at)
         values ('${tenant.companyId}', 'web', '${message}', '${question?.id}', '${question?.session_id}', 'main', 'u1', 'finished',
           now(), '{"content": "said"}', 2, now() - interval '${ended}')`,
      )
    const unsaved = record().id
    await turn(answer?.id, '200 days')
    await turn(unsaved, '200 days')
    await rows(
      tenant,
      `insert into chat_reply_events (company_id, platform, message_id, first_event_id, events)
       values ('${tenant.companyId}', 'web', '${answer?.id}', 0, '["said"]')`,
    )
    await run(tenant)
    expect(await rows(tenant, 'select message_id from chat_turns')).toEqual([{ message_id: unsaved }])
    expect(await rows(tenant, 'select 1 from chat_reply_events')).toEqual([])
  })

  test('removes the names of users from counts that count no more, and leaves those that do', async () => {
    const tenant = company()
    for (const [key, until] of [
      ['gone', '-1 second'],
      ['here', '1 minute'],
    ])
      await rows(
        tenant,
        `insert into rate_limits (company_id, platform, kind, key, kept_until)
         values ('${tenant.companyId}', 'web', 'user', '${key}', now() + interval '${until}')`,
      )
    await run(tenant)
    expect(await rows(tenant, 'select key from rate_limits')).toEqual([{ key: 'here' }])
  })

  test('stops where its time runs out, and the next run does the rest', async () => {
    const tenant = company()
    for (let sessions = 0; sessions < 3; sessions += 1) await saved(tenant, 4, 50)
    await keep(tenant, 30)
    let calls = 0
    const some = () => {
      calls += 1
      return calls < 3 ? 1 : 0
    }
    expect(await run(tenant, some)).toMatchObject({ isFinished: false })
    expect(await run(tenant)).toMatchObject({ isFinished: true })
    expect(await rows(tenant, 'select 1 from chat_messages')).toEqual([])
    expect(await rows(tenant, 'select 1 from chat_sessions')).toEqual([])
  })

  test('of hundreds of conversations with as many threads as are looked at removes all', async () => {
    const tenant = company()
    await rows(
      tenant,
      `insert into chat_sessions (id, company_id, platform, user_id, deleted_at)
       select gen_random_uuid(), '${tenant.companyId}', 'web', 'u1', now() - interval '31 days' from generate_series(1, 500)`,
    )
    await rows(
      tenant,
      `insert into archived_threads (company_id, platform, session_id, thread_id, newest_answer_id, newest_answer_at)
       select '${tenant.companyId}', 'web', s.id, gen_random_uuid(), gen_random_uuid(), now()
       from chat_sessions s cross join generate_series(1, 50) where s.company_id = '${tenant.companyId}'`,
    )
    expect(await run(tenant)).toMatchObject({ sessions: 500, isFinished: true })
    expect(await rows(tenant, 'select 1 from chat_sessions')).toEqual([])
    expect(await rows(tenant, 'select 1 from archived_threads')).toEqual([])
  })

  test('twice at once removes everything once', async () => {
    const tenant = company()
    for (let sessions = 0; sessions < 5; sessions += 1) await saved(tenant, 4, 50)
    await archive.run(tenant.companyId)
    for (let sessions = 0; sessions < 5; sessions += 1) await saved(tenant, 4, 50)
    await keep(tenant, 30)
    const runs = await Promise.allSettled([run(tenant), run(tenant)])
    if (runs.some(({ status }) => status === 'rejected')) await run(tenant)
    expect(await rows(tenant, 'select 1 from chat_sessions')).toEqual([])
    expect(await archive.copies(tenant.companyId)).toEqual([])
  })

  test('does not know of other tenants', async () => {
    const [tenant, other] = [company(), company()]
    await saved(other, 4, 50, uuidv7())
    const before = await rows(other, 'select * from chat_messages order by id')
    await keep(tenant, 1)
    await run(tenant)
    expect(await rows(other, 'select * from chat_messages order by id')).toEqual(before)
  })
})
