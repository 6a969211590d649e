import { afterAll, beforeAll, expect, test } from 'vitest'
import type { AuditEntry } from '../../lambdas/protocol/audit.ts'
import type { Page } from '../../lambdas/protocol/lists.ts'
import type { ExportAnswer } from '../../lambdas/protocol/rights.ts'
import type { Session } from '../../lambdas/protocol/sessions.ts'
import { download, exportEnded, exported, type Line } from '../harness/rights.ts'
import { inBothPhases, startTurnkeep, type Turnkeep } from '../harness/turnkeep.ts'

const LARGE = '큰 글 😀 '.repeat(8_000)

inBothPhases('an export', (phase) => {
  let turnkeep: Turnkeep
  beforeAll(async () => {
    turnkeep = await startTurnkeep({ ...phase, name: 'exports' })
  })
  afterAll(() => turnkeep.close())

  const of = (lines: Line[], kind: string) => lines.filter((line) => line.kind === kind)

  test('holds everything of one user, and nothing of others', async () => {
    const user = turnkeep.as({ userId: 'haneul' })
    await turnkeep.as({ userId: 'somebody' }).ask('남의 질문')
    const first = await user.ask({ message: '첫 질문 😀', metadata: { page: 'home' } })
    const sessionId = first.session?.sessionId ?? ''
    await user.ask({ message: LARGE, sessionId })
    const second = await user.ask('another conversation')
    await user.call('POST', `/api/messages/${first.session?.messageId}/feedback`, {
      score: 2,
      comment: '아니오',
    })
    await turnkeep.drained()

    const { answer, lines } = await exported(user, 'haneul')
    expect(answer).toMatchObject({
      status: 'ready',
      userId: 'haneul',
      progress: { sessions: 2, messages: 6 },
    })
    const sessions = (await user.call<{ items: Session[] }>('GET', '/api/sessions')).body.items
    const byId = (one: object, other: object) => JSON.stringify(one).localeCompare(JSON.stringify(other))
    expect(of(lines, 'session').sort(byId)).toEqual(
      sessions.map((session) => ({ kind: 'session', ...session })).sort(byId),
    )
    for (const id of [sessionId, second.session?.sessionId ?? '']) {
      const messages = await user.messages(id)
      expect(of(lines, 'message').filter((line) => line.sessionId === id)).toEqual(
        messages.map((message) => ({ kind: 'message', ...message })),
      )
    }
    expect(of(lines, 'message').some(({ content }) => content === LARGE)).toBe(true)
    expect(of(lines, 'feedback')).toEqual([
      { kind: 'feedback', messageId: first.session?.messageId, sessionId, score: 2, comment: '아니오' },
    ])
    expect(of(lines, 'usage')).toMatchObject([{ turns: 3 }])
    expect(of(lines, 'audit')).toMatchObject([{ action: 'user.exported', actorId: 'haneul' }])
    expect(JSON.stringify(lines)).not.toContain('남의 질문')
  })

  test.each([
    { of: 'many short messages', messages: 1_500, text: `'네.'` },
    { of: 'nothing but quotation marks', messages: 60, text: `repeat('"', 15000)` },
  ])('holds a conversation of $of, each once', async ({ of: kind, messages, text }) => {
    await turnkeep.rows(
      `with session as (
        insert into chat_sessions (id, company_id, platform, user_id, message_count)
        values (gen_random_uuid(), 'acme', 'web', '${kind}', ${messages}) returning id
      )
      insert into chat_messages (id, company_id, platform, session_id, role, content, status, sequence_number)
      select gen_random_uuid(), 'acme', 'web', s.id, 'user', ${text}, 'complete', n
      from session s cross join generate_series(1, ${messages}) n`,
    )
    const { answer, lines } = await exported(turnkeep.as({ userId: kind }), kind)
    expect(answer).toMatchObject({ status: 'ready', progress: { sessions: 1, messages } })
    expect(of(lines, 'message').map(({ sequenceNumber }) => sequenceNumber)).toEqual(
      Array.from({ length: messages }, (_, index) => index + 1),
    )
  })

  test('of a user whom nobody has seen is ready, with nothing in it', async () => {
    const admin = turnkeep.as({ userId: 'admin', role: 'admin' })
    const { answer, lines } = await exported(admin, 'nobody / %25 하늘')
    expect(answer).toMatchObject({
      status: 'ready',
      userId: 'nobody / %25 하늘',
      progress: { sessions: 0, messages: 0 },
    })
    expect(lines).toMatchObject([{ kind: 'audit', action: 'user.exported', actorId: 'admin' }])
  })

  test('is for its user and for admins, and is nobody else’s to see', async () => {
    const user = turnkeep.as({ userId: 'own' })
    const { body } = await user.call<{ exportId: string }>('POST', '/api/users/own/export')
    await exportEnded(user, body.exportId)
    for (const stranger of [
      turnkeep.as({ userId: 'other' }),
      turnkeep.as({ userId: 'agent', role: 'agent' }),
      turnkeep.as({ userId: 'admin', role: 'admin', companyId: 'elsewhere' }),
    ])
      expect((await stranger.call('GET', `/api/exports/${body.exportId}`)).status).toBe(404)
    expect(
      (await turnkeep.as({ userId: 'agent', role: 'agent' }).call('POST', '/api/users/own/export')).status,
    ).toBe(403)
    expect((await turnkeep.as({ userId: 'other' }).call('GET', '/api/users/own')).status).toBe(403)
    const admin = turnkeep.as({ userId: 'admin', role: 'admin' })
    expect((await admin.call<ExportAnswer>('GET', `/api/exports/${body.exportId}`)).body.status).toBe('ready')
    expect((await admin.call('GET', `/api/erasures/${body.exportId}`)).status).toBe(404)
    // Each link to it that somebody else was given is on record, whichever way.
    await admin.call('GET', '/api/users/own')
    await user.call('GET', `/api/exports/${body.exportId}`)
    const { items } = (await admin.call<Page<AuditEntry>>('GET', '/api/audit?userId=own')).body
    expect(items.map(({ actorId, action }) => `${actorId} ${action}`)).toEqual([
      'admin user.exported',
      'admin user.read',
      'admin user.exported',
      'own user.exported',
    ])
    expect((await admin.call('GET', '/api/exports/nonsense')).status).toBe(400)
    expect((await admin.call('POST', '/api/users/%E0%A4%A/export')).status).toBe(400)
  })

  test('has a link that is enough by itself and works under its name', async () => {
    const user = turnkeep.as({ userId: 'linked' })
    await user.ask('hello')
    const { answer } = await exported(user, 'linked')
    const url = new URL(answer.download?.url ?? '')
    expect(url.searchParams.get('X-Amz-Expires')).toBe('900')
    expect(url.searchParams.get('response-content-disposition')).toContain(`${answer.exportId}.jsonl.gz`)
    expect((await download(answer)).length).toBeGreaterThan(2)
  })

  test('has a link that works for a tenant of nothing but dots', async () => {
    for (const companyId of ['.', '..'])
      expect((await exported(turnkeep.as({ companyId, userId: 'dots' }), 'dots')).lines).toMatchObject([
        { kind: 'audit', action: 'user.exported' },
      ])
  })

  test('is told what there is of a user before anything is asked for', async () => {
    const user = turnkeep.as({ userId: 'glance' })
    await user.ask('hello')
    await turnkeep.drained()
    const before = await user.call('GET', '/api/users/glance')
    expect(before.body).toEqual({ userId: 'glance', sessions: 1, messages: 2, export: null, erasure: null })
    const { answer } = await exported(user, 'glance')
    expect((await user.call('GET', '/api/users/glance')).body).toMatchObject({
      export: { exportId: answer.exportId, status: 'ready' },
    })
  })
})
