import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Page } from '../../lambdas/protocol/lists.ts'
import type { MessagePage } from '../../lambdas/protocol/messages.ts'
import type { Session } from '../../lambdas/protocol/sessions.ts'
import { inBothPhases, startTurnkeep, type Turnkeep } from '../harness/turnkeep.ts'

inBothPhases('sessions', (phase) => {
  let turnkeep: Turnkeep
  beforeAll(async () => {
    turnkeep = await startTurnkeep({ ...phase, name: 'sessions' })
  })
  afterAll(() => turnkeep.close())

  const create = async (user = turnkeep.as(), body: Record<string, unknown> = {}) =>
    (await user.call<Session>('POST', '/api/sessions', body)).body

  describe('a session', () => {
    test('is created with what was given and lives for 24 hours', async () => {
      const user = turnkeep.as({ userId: 'creator' })
      const { status, body } = await user.call<Session>('POST', '/api/sessions', {
        title: '배송 문의',
        channel: 'app',
        metadata: { order: 1 },
      })
      expect(status).toBe(201)
      expect(body).toMatchObject({
        userId: 'creator',
        title: '배송 문의',
        channel: 'app',
        metadata: { order: 1 },
        isActive: true,
        messageCount: 0,
        satisfactionScore: null,
      })
      expect(Date.parse(body.expiresAt) - Date.parse(body.createdAt)).toBe(24 * 3_600_000)
      expect(Math.abs(Date.parse(body.createdAt) - Date.now())).toBeLessThan(60_000)
      expect((await user.call('GET', `/api/sessions/${body.sessionId}`)).body).toEqual(body)
    })

    test('is titled by its first question and refreshed by each', async () => {
      const user = turnkeep.as({ userId: 'titled' })
      const { session } = await user.ask('  배송은\n 언제 되나요? ')
      const path = `/api/sessions/${session?.sessionId}`
      const first = (await user.call<Session>('GET', path)).body
      expect(first.title).toBe('배송은 언제 되나요?')
      await user.ask({ message: 'and now?', sessionId: session?.sessionId })
      const second = (await user.call<Session>('GET', path)).body
      expect(Date.parse(second.lastActiveAt)).toBeGreaterThan(Date.parse(first.lastActiveAt))
      expect(Date.parse(second.expiresAt)).toBeGreaterThan(Date.parse(first.expiresAt))
      expect(second).toMatchObject({ title: first.title, messageCount: 4 })
    })

    test('takes business data in any language; what is absent stays and null clears', async () => {
      const user = turnkeep.as()
      const { sessionId } = await create(user)
      const path = `/api/sessions/${sessionId}`
      const business = {
        inquiryCategory: '배송문의',
        satisfactionScore: 5,
        resolutionStatus: '해결됨',
        priority: '긴급',
        followUpNeeded: true,
        businessImpact: '높음 🚀',
      }
      expect((await user.call('PATCH', path, business)).body).toMatchObject(business)
      const changed = await user.call('PATCH', path, { title: 'renamed', priority: null })
      expect(changed.body).toMatchObject({ ...business, title: 'renamed', priority: null })
      expect((await user.call('GET', path)).body).toEqual(changed.body)
      expect((await user.call('PATCH', path, {})).body).toMatchObject({ title: 'renamed' })
    })

    test.each([
      [{ satisfactionScore: 0 }, 'satisfactionScore'],
      [{ satisfactionScore: 2.5 }, 'satisfactionScore'],
      [{ satisfactionScore: '5' }, 'satisfactionScore'],
      [{ followUpNeeded: 'yes' }, 'followUpNeeded'],
      [{ title: '' }, 'title'],
      [{ metadata: null }, 'metadata'],
      [{ userId: 'thief' }, 'userId'],
      [{ isActive: true }, 'isActive'],
    ])('refuses %j', async (patch, field) => {
      const user = turnkeep.as()
      const { sessionId } = await create(user)
      expect(await user.call('PATCH', `/api/sessions/${sessionId}`, patch)).toMatchObject({
        status: 400,
        body: { error: { code: 'invalid_request', details: [{ field }] } },
      })
    })

    test('that was ended stays readable; one that was purged is gone', async () => {
      const user = turnkeep.as({ userId: 'ender' })
      const { session } = await user.ask('hello')
      const path = `/api/sessions/${session?.sessionId}`
      expect((await user.call('DELETE', path)).status).toBe(204)
      expect((await user.call('DELETE', path)).status).toBe(204)
      expect((await user.call('GET', path)).body).toMatchObject({
        isActive: false,
        endedAt: expect.any(String),
      })
      expect(await user.messages(session?.sessionId ?? '')).toHaveLength(2)
      expect((await user.call('DELETE', `${path}?purge=maybe`)).status).toBe(400)
      expect((await user.call('DELETE', `${path}?purge=true`)).status).toBe(204)
      expect((await user.call('GET', path)).status).toBe(404)
      expect((await user.call('GET', `${path}/messages`)).status).toBe(404)
      expect((await user.call<Page<Session>>('GET', '/api/sessions')).body.items).toEqual([])
      expect((await user.ask({ message: 'hello?', sessionId: session?.sessionId })).status).toBe(404)
    })
  })

  describe('the list of sessions', () => {
    test('is paged without gaps or repeats, newest activity first', async () => {
      const user = turnkeep.as({ userId: 'lister' })
      for (let n = 0; n < 7; n += 1) await create(user, { title: `n${n}` })
      const seen: string[] = []
      let cursor = ''
      for (;;) {
        const { body } = await user.call<Page<Session>>('GET', `/api/sessions?limit=3${cursor}`)
        seen.push(...body.items.map(({ title }) => title ?? ''))
        if (body.nextCursor === null) break
        cursor = `&cursor=${body.nextCursor}`
      }
      expect(seen).toEqual(['n6', 'n5', 'n4', 'n3', 'n2', 'n1', 'n0'])
    })

    test('is filtered by activity', async () => {
      const user = turnkeep.as({ userId: 'active' })
      const ended = await create(user)
      const running = await create(user)
      await user.call('DELETE', `/api/sessions/${ended.sessionId}`)
      const ids = async (query: string) =>
        (await user.call<Page<Session>>('GET', `/api/sessions${query}`)).body.items.map(
          ({ sessionId }) => sessionId,
        )
      expect(await ids('?active=true')).toEqual([running.sessionId])
      expect(await ids('?active=false')).toEqual([ended.sessionId])
      expect(await ids('')).toHaveLength(2)
    })

    test.each(['limit=0', 'limit=101', 'limit=x', 'limit=', 'active=1', 'cursor=nonsense', 'cursor=%00'])(
      'refuses %s',
      async (query) => {
        expect(await turnkeep.as().call('GET', `/api/sessions?${query}`)).toMatchObject({
          status: 400,
          body: { error: { code: 'invalid_request', details: [{ field: query.split('=')[0] }] } },
        })
      },
    )
  })

  describe('the list of messages', () => {
    test('is paged by position, both ways, and never splits siblings', async () => {
      const user = turnkeep.as({ userId: 'pager' })
      const first = await user.ask('q1')
      const sessionId = first.session?.sessionId ?? ''
      for (let n = 2; n <= 4; n += 1) await user.ask({ message: `q${n}`, sessionId })
      for (let n = 0; n < 3; n += 1)
        await user.ask({ message: `sibling ${n}`, sessionId, parentMessageId: first.session?.messageId })
      const page = async (query: string) =>
        (await user.call<MessagePage>('GET', `/api/sessions/${sessionId}/messages?${query}`)).body
      for (const order of ['asc', 'desc']) {
        const seen: number[] = []
        let after = ''
        for (;;) {
          const { items, nextAfter } = await page(`limit=2&order=${order}${after}`)
          const positions = items.map(({ sequenceNumber }) => sequenceNumber)
          expect(positions.filter((position) => seen.includes(position))).toEqual([])
          seen.push(...positions)
          if (nextAfter === null) break
          expect(nextAfter).toBe(positions.at(-1))
          after = `&after=${nextAfter}`
        }
        const expected = [1, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 6, 7, 8]
        expect(seen).toEqual(order === 'asc' ? expected : expected.toReversed())
      }
    })

    test('of a long conversation of large messages ends its pages by size', async () => {
      const user = turnkeep.as({ userId: 'bulky' })
      let sessionId: string | undefined
      for (let n = 0; n < 12; n += 1) {
        const reply = await user.ask({ message: `${n}${'가'.repeat(99_990)}`, sessionId })
        sessionId = reply.session?.sessionId
      }
      const { status, body } = await user.call<MessagePage>(
        'GET',
        `/api/sessions/${sessionId}/messages?limit=100`,
      )
      expect(status).toBe(200)
      expect(body.items.length).toBeLessThan(24)
      expect(body.nextAfter).toBe(body.items.at(-1)?.sequenceNumber)
      const all = await user.messages(sessionId ?? '')
      expect(
        all.filter(({ role }) => role === 'user').map(({ content }) => Number.parseInt(content, 10)),
      ).toEqual(Array.from({ length: 12 }, (_, n) => n))
    })

    test('leaves out what was deleted, also when the deletion overtakes the save', async () => {
      const user = turnkeep.as({ userId: 'deleter' })
      const { session } = await user.ask('hello')
      const sessionId = session?.sessionId ?? ''
      expect((await user.call('DELETE', `/api/messages/${session?.messageId}`)).status).toBe(204)
      expect((await user.call('DELETE', `/api/messages/${session?.messageId}`)).status).toBe(204)
      const left = await user.messages(sessionId)
      expect(left.map(({ role }) => role)).toEqual(['user'])
      await turnkeep.drained()
      expect(await user.messages(sessionId)).toEqual(left)
      expect((await user.call('GET', `/api/sessions/${sessionId}`)).body).toMatchObject({ messageCount: 1 })
    })

    test.each([
      {
        of: 'its first question',
        message: '  첫\u3000질문 😀\n\t둘째 줄 '.padEnd(200, '가'),
        named: undefined,
        left: null,
      },
      {
        of: 'one that is too long for a row',
        message: `큰 글 ${'😀 '.repeat(9_000)}`,
        named: undefined,
        left: null,
      },
      { of: 'another name', message: '비밀 번호', named: '내 대화', left: '내 대화' },
    ])('takes the title that was made of it along: $of', async ({ message, named, left }) => {
      const user = turnkeep.as({ userId: 'titled' })
      const { session } = await user.ask(message)
      const path = `/api/sessions/${session?.sessionId}`
      const second = await user.ask({ message, sessionId: session?.sessionId })
      const title = async () => (await user.call<Session>('GET', path)).body.title
      if (named) await user.call('PATCH', path, { title: named })
      const before = await title()
      expect(before).toBeTruthy()
      await user.call('DELETE', `/api/messages/${second.session?.userMessageId}`)
      await user.call('DELETE', `/api/messages/${session?.messageId}`)
      expect(await title()).toBe(before)
      await user.call('DELETE', `/api/messages/${session?.userMessageId}`)
      expect(await title()).toBe(left)
      await turnkeep.drained()
      expect(await title()).toBe(left)
    })
  })

  describe('feedback', () => {
    test('is kept, also when it overtakes the save', async () => {
      const user = turnkeep.as({ userId: 'critic' })
      const { session } = await user.ask('hello')
      const path = `/api/messages/${session?.messageId}/feedback`
      expect((await user.call('POST', path, { score: 4, comment: '좋아요' })).status).toBe(204)
      const sessionId = session?.sessionId ?? ''
      expect((await user.messages(sessionId))[1]).toMatchObject({ satisfactionScore: 4 })
      await turnkeep.drained()
      expect((await user.messages(sessionId))[1]).toMatchObject({ satisfactionScore: 4, status: 'complete' })
      expect(
        await turnkeep.rows(`select feedback_comment from chat_messages where id = '${session?.messageId}'`),
      ).toEqual([{ feedback_comment: '좋아요' }])
      expect((await user.call('POST', path, { score: 2 })).status).toBe(204)
      expect((await user.messages(sessionId))[1]).toMatchObject({ satisfactionScore: 2 })
    })

    test.each([[{}], [{ score: 6 }], [{ score: 3, comment: 'x'.repeat(2_001) }], [{ score: 3, other: 1 }]])(
      'refuses %j',
      async (body) => {
        const answer = await turnkeep.as().call('POST', `/api/messages/${randomUUID()}/feedback`, body)
        expect(answer).toMatchObject({ status: 400, body: { error: { code: 'invalid_request' } } })
      },
    )

    test('of an unknown message is not_found', async () => {
      const answer = await turnkeep.as().call('POST', `/api/messages/${randomUUID()}/feedback`, { score: 3 })
      expect(answer.status).toBe(404)
    })
  })

  describe('who may see what', () => {
    test('nothing of another user or tenant can be read, changed, asked or ended', async () => {
      const owner = turnkeep.as({ userId: 'owner' })
      const { session } = await owner.ask('secret')
      const sessionId = session?.sessionId
      const before = await owner.messages(sessionId ?? '')
      const strangers = [
        turnkeep.as({ userId: 'stranger' }),
        turnkeep.as({ userId: 'owner', companyId: 'other' }),
        turnkeep.as({ userId: 'owner', platform: 'app' }),
        turnkeep.as({ userId: 'admin', companyId: 'other', role: 'admin' }),
      ]
      for (const stranger of strangers) {
        const answers = await Promise.all([
          stranger.call('GET', `/api/sessions/${sessionId}`),
          stranger.call('PATCH', `/api/sessions/${sessionId}`, { title: 'mine' }),
          stranger.call('DELETE', `/api/sessions/${sessionId}`),
          stranger.call('GET', `/api/sessions/${sessionId}/messages`),
          stranger.call('POST', `/api/messages/${session?.messageId}/feedback`, { score: 1 }),
          stranger.call('DELETE', `/api/messages/${session?.messageId}`),
          stranger.ask({ message: 'hi', sessionId }),
          stranger.ask({ message: 'hi', sessionId, parentMessageId: session?.messageId }),
        ])
        expect(answers.map(({ status }) => status)).toEqual([404, 404, 404, 404, 404, 404, 404, 404])
        expect((await stranger.call<Page<Session>>('GET', '/api/sessions')).body.items).toEqual([])
      }
      expect(await owner.messages(sessionId ?? '')).toEqual(before)
    })

    test('an agent sees the tenant’s sessions and may ask for a user, who then owns the session', async () => {
      const agent = turnkeep.as({ userId: 'agent', role: 'agent', companyId: 'helpdesk' })
      const user = turnkeep.as({ userId: 'customer', companyId: 'helpdesk' })
      const { session } = await agent.ask({ message: 'for the customer', userId: 'customer' })
      expect(await user.messages(session?.sessionId ?? '')).toHaveLength(2)
      const listed = (await agent.call<Page<Session>>('GET', '/api/sessions?userId=customer')).body.items
      expect(listed.map(({ sessionId }) => sessionId)).toEqual([session?.sessionId])
      const reply = await agent.ask({ message: 'again', sessionId: session?.sessionId, userId: 'somebody' })
      expect(reply.status).toBe(404)
      expect((await user.call('GET', '/api/sessions?userId=agent')).status).toBe(403)
      expect((await user.call('POST', '/api/sessions', { userId: 'agent' })).status).toBe(403)
    })
  })
})
