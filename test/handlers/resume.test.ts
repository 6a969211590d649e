import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { summary } from '../harness/client.ts'
import { inBothPhases, startTurnkeep, type Turnkeep } from '../harness/turnkeep.ts'

inBothPhases('readers, stops and second answers', (phase) => {
  let turnkeep: Turnkeep
  beforeAll(async () => {
    turnkeep = await startTurnkeep({ ...phase, name: 'resume', scriptedModel: { tokenDelayMs: 4 } })
  })
  afterAll(() => turnkeep.close())

  const LONG = '길게 써 주세요'
  const path = (messageId: string | undefined) => `/api/chat/stream/${messageId}`

  describe('a reader', () => {
    test('who lost the connection gets every event once, in order', async () => {
      const user = turnkeep.as({ userId: 'reconnect' })
      const before = await user.ask(LONG, { onEvent: ({ id }) => id === 7 })
      const last = before.events.at(-1)?.id ?? -1
      const after = await user.stream('GET', path(before.session?.messageId), undefined, {
        headers: { 'last-event-id': String(last) },
      })
      const ids = [...before.events, ...after.events].map(({ id }) => id)
      expect(ids).toEqual(ids.map((_, index) => index))
      const [, answer] = await user.messages(before.session?.sessionId ?? '')
      expect(answer).toMatchObject({ status: 'complete', content: before.text + after.text })
    })

    test('who comes late gets everything from the start, running or finished', async () => {
      const user = turnkeep.as({ userId: 'late' })
      const running = Promise.withResolvers<string>()
      const asked = user.ask(LONG, {
        onEvent: ({ event }) => {
          if (event.type === 'session') running.resolve(event.messageId)
          return false
        },
      })
      const attached = await user.stream('GET', path(await running.promise))
      const original = await asked
      expect(attached.events).toEqual(original.events)
      const replayed = await user.stream('GET', path(original.session?.messageId))
      expect(replayed.events).toEqual(original.events)
      const tail = await user.stream('GET', `${path(original.session?.messageId)}?after=3`)
      expect(tail.events).toEqual(original.events.slice(4))
    })

    test('without headers resumes by the link of the session event, and with no other', async () => {
      const user = turnkeep.as({ userId: 'link' })
      const first = await user.ask('hello')
      const second = await user.ask('hello')
      const url = first.session?.resumeUrl ?? ''
      const response = await fetch(`${turnkeep.address}${url}`)
      expect(response.status).toBe(200)
      expect((await response.text()).match(/^id: /gm)).toHaveLength(first.events.length)
      const token = url.split('token=')[1]
      for (const wrong of [
        `${path(second.session?.messageId)}?token=${token}`,
        `${path(first.session?.messageId)}?token=${token}x`,
        `${path(first.session?.messageId)}?token=${await user.token}`,
        `${path(first.session?.messageId)}?token=`,
      ])
        expect((await fetch(`${turnkeep.address}${wrong}`)).status).toBe(401)
      const bearer = await fetch(`${turnkeep.address}/api/sessions`, {
        headers: { authorization: `Bearer ${token}` },
      })
      expect(bearer.status).toBe(401)
    })

    test('at the end of a finished answer is told to stop', async () => {
      const user = turnkeep.as({ userId: 'end' })
      const { events, session } = await user.ask('hello')
      for (const after of [events.length - 1, events.length + 100]) {
        const response = await user.fetch('GET', path(session?.messageId), undefined, {
          'last-event-id': String(after),
        })
        expect(response.status).toBe(204)
      }
    })

    test.each(['-1', 'abc', '1.5', '99999999999', ''])('with the place %j is refused', async (place) => {
      const user = turnkeep.as({ userId: 'place' })
      const { session } = await user.ask('hello')
      expect(await user.call('GET', `${path(session?.messageId)}?after=${place}`)).toMatchObject({
        status: 400,
        body: { error: { code: 'invalid_request', details: [{ field: 'after' }] } },
      })
      if (place === '') return // An empty header is no header.
      expect(
        await user.call('GET', path(session?.messageId), undefined, { 'last-event-id': place }),
      ).toMatchObject({ status: 400, body: { error: { details: [{ field: 'Last-Event-ID' }] } } })
    })

    test('of what is unknown or somebody else’s gets not_found', async () => {
      const { session } = await turnkeep.as({ userId: 'owner' }).ask('hello')
      const mine = path(session?.messageId)
      expect((await turnkeep.as({ userId: 'other' }).call('GET', mine)).status).toBe(404)
      expect((await turnkeep.as({ userId: 'owner', companyId: 'other' }).call('GET', mine)).status).toBe(404)
      expect((await turnkeep.as({ userId: 'owner' }).call('GET', path(randomUUID()))).status).toBe(404)
      expect((await turnkeep.as({ userId: 'owner' }).call('GET', path('nonsense'))).status).toBe(400)
      expect((await turnkeep.as({ userId: 'colleague', role: 'agent' }).fetch('GET', mine)).status).toBe(200)
    })

    test('of an erased message is told so', async () => {
      const user = turnkeep.as({ userId: 'eraser' })
      const { session } = await user.ask('hello')
      await user.call('DELETE', `/api/messages/${session?.messageId}`)
      expect(await user.call('GET', path(session?.messageId))).toMatchObject({
        status: 410,
        body: { error: { code: 'erased' } },
      })
    })
  })

  describe('a stop', () => {
    test('from another connection ends the answer within a second, keeps what came and closes the model’s connection', async () => {
      const user = turnkeep.as({ userId: 'stopper' })
      let stoppedAt = 0
      const reply = await user.ask(LONG, {
        onEvent: async ({ id }, soFar) => {
          if (id === 8) {
            expect((await user.call('DELETE', path(summary(soFar).session?.messageId))).status).toBe(202)
            stoppedAt = Date.now()
          }
          return false
        },
      })
      expect(Date.now() - stoppedAt).toBeLessThan(1_000)
      await expect.poll(() => turnkeep.cloud.scriptedModel?.requests.at(-1)?.outcome).toBe('disconnected')
      expect(reply.terminal).toMatchObject({ type: 'done', finishReason: 'stopped' })
      const [, answer] = await user.messages(reply.session?.sessionId ?? '')
      expect(answer).toMatchObject({ status: 'stopped', content: reply.text, tokenCount: expect.any(Number) })
      expect(answer?.tokenCount).toBeGreaterThan(0)
      await turnkeep.drained()
      expect((await user.messages(reply.session?.sessionId ?? ''))[1]).toEqual(answer)
      const next = await user.ask({ message: 'go on', sessionId: reply.session?.sessionId })
      expect(next.terminal?.type).toBe('done')
    })

    test('of a finished answer changes nothing', async () => {
      const user = turnkeep.as({ userId: 'too late' })
      const { session, text } = await user.ask('hello')
      expect((await user.call('DELETE', path(session?.messageId))).status).toBe(200)
      expect((await user.messages(session?.sessionId ?? ''))[1]).toMatchObject({
        status: 'complete',
        content: text,
      })
    })

    test('of what is unknown or somebody else’s gets not_found', async () => {
      const { session } = await turnkeep.as({ userId: 'owner' }).ask('hello')
      expect((await turnkeep.as({ userId: 'other' }).call('DELETE', path(session?.messageId))).status).toBe(
        404,
      )
      expect((await turnkeep.as({ userId: 'other' }).call('DELETE', path(randomUUID()))).status).toBe(404)
    })
  })

  describe('regenerating', () => {
    test('makes a sibling with the same question and the same place', async () => {
      const user = turnkeep.as({ userId: 'regenerate' })
      const first = await user.ask('hello')
      const sessionId = first.session?.sessionId ?? ''
      for (const target of [first.session?.messageId, first.session?.userMessageId]) {
        const again = await user.stream('POST', `/api/messages/${target}/regenerate`)
        expect(again.terminal?.type).toBe('done')
        expect(again.session).toMatchObject({
          sessionId,
          userMessageId: first.session?.userMessageId,
          created: false,
        })
      }
      const messages = await user.messages(sessionId)
      expect(messages.map(({ role, sequenceNumber }) => [role, sequenceNumber])).toEqual([
        ['user', 1],
        ['assistant', 2],
        ['assistant', 2],
        ['assistant', 2],
      ])
      expect((await user.call('GET', `/api/sessions/${sessionId}`)).body).toMatchObject({ messageCount: 4 })
      await turnkeep.drained()
      expect(await user.messages(sessionId)).toEqual(messages)
    })

    test('while the question is being answered is refused', async () => {
      const user = turnkeep.as({ userId: 'impatient' })
      const refusals: number[] = []
      await user.ask(LONG, {
        onEvent: async ({ id, event }) => {
          if (event.type !== 'session' || id !== 0) return false
          for (const target of [event.messageId, event.userMessageId])
            refusals.push((await user.stream('POST', `/api/messages/${target}/regenerate`)).status)
          return false
        },
      })
      expect(refusals).toEqual([409, 409])
    })

    test('what is unknown, somebody else’s or ended is refused', async () => {
      const user = turnkeep.as({ userId: 'ender' })
      const { session } = await user.ask('hello')
      const target = `/api/messages/${session?.messageId}/regenerate`
      expect((await turnkeep.as({ userId: 'other' }).stream('POST', target)).status).toBe(404)
      expect((await user.stream('POST', `/api/messages/${randomUUID()}/regenerate`)).status).toBe(404)
      await user.call('DELETE', `/api/sessions/${session?.sessionId}`)
      expect(await user.stream('POST', target)).toMatchObject({ status: 410, error: { code: 'ended' } })
    })
  })
})
