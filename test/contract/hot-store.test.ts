/** What every hot store does, whatever it stands on. */
import { v7 as uuidv7 } from 'uuid'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { MAX_INLINE_BYTES } from '../../lambdas/messages/large-text.ts'
import type { Tenant } from '../../lambdas/protocol/callers.ts'
import type { ReplyEvent } from '../../lambdas/protocol/chat.ts'
import { type MessageRecord, messageRecordSchema } from '../../lambdas/protocol/queue.ts'
import type { HistoryMessage, HotStore, TurnRequest } from '../../lambdas/services/hot-store.ts'
import {
  answerTo,
  askIn,
  type BackEnd,
  backEnds,
  converse,
  done,
  leaseOf,
  newTenant,
  opened,
  readAll,
  readTurn,
  reconverse,
  refused,
  type StartedBackEnd,
  type Told,
  tell,
  token,
} from '../harness/hot-store.ts'

const LEASE_SECONDS = 60
const HISTORY = 5
/** Text of a history is bounded by this, at whole messages; in the Data API's one response no more has room. */
const HISTORY_BYTES = 800_000

type Columns = Omit<MessageRecord, 'user_id'>

/** What of a history's message anybody looks at. */
const brief = ({ id, role, content, content_key, parent_message_id, sequence_number }: HistoryMessage) => ({
  id,
  role,
  content,
  content_key,
  parent_message_id,
  sequence_number,
})
const briefly = (messages: readonly HistoryMessage[]) => messages.map(brief)
const textsOf = (messages: readonly HistoryMessage[]) => messages.map(({ content }) => content)

/** The same record, its time written one way. */
const normal = <Record extends Columns>(record: Record | undefined) =>
  record && { ...record, created_at: new Date(record.created_at).toISOString() }

/** A record's columns alone. Its user is not among them: the session has one; what the save has to do is done. */
function columns(message: (Columns & { user_id?: string }) | undefined) {
  if (message === undefined) return undefined
  const { user_id: _, ...record } = normal(message) ?? message
  return Object.fromEntries(
    Object.keys(record)
      .filter((name) => name in COLUMNS)
      .map((name) => [name, record[name as keyof typeof record]]),
  )
}
const { user_id: _, on_save: __, ...COLUMNS } = messageRecordSchema.entries

function contract({ name, skip, start }: BackEnd): void {
  describe.skipIf(skip !== undefined)(`a hot store on ${name}${skip ? ` (${skip})` : ''}`, () => {
    let backEnd: StartedBackEnd
    /** Its leases hold longer than any test. */
    let store: HotStore
    /** Its leases have run out as soon as they are given: its writers are gone. */
    let lost: HotStore
    beforeAll(async () => {
      backEnd = await start()
      store = backEnd.open({ leaseSeconds: LEASE_SECONDS, historyMessages: HISTORY })
      lost = backEnd.open({ leaseSeconds: 0, historyMessages: HISTORY })
    })
    afterAll(() => backEnd?.close())

    describe('opening a turn', () => {
      test('in a session that is not there makes it', async () => {
        const tenant = newTenant()
        const request = askIn(tenant, { owner: 'somebody' })
        const before = Date.now()
        const turn = await opened(store.openTurn(request))
        expect(turn).toMatchObject({
          sessionId: request.sessionId,
          created: true,
          known: false,
          epoch: 1,
          answerSequenceNumber: 2,
          history: [],
        })
        expect(Math.abs(Date.parse(turn.openedAt) - before)).toBeLessThan(60_000)
        expect(turn.question).toEqual({
          ...request.question,
          session_id: request.sessionId,
          user_id: 'somebody',
          parent_message_id: null,
          sequence_number: 1,
          created_at: expect.any(String),
          on_save: turn.question.on_save,
        })
        expect(Date.parse(turn.question.created_at)).toBe(Date.parse(turn.openedAt))
      })

      test('in one that is there follows its newest answer', async () => {
        const tenant = newTenant()
        const first = await converse(store, askIn(tenant))
        const { sessionId } = first.turn
        const turn = await opened(store.openTurn(askIn(tenant, { sessionId })))
        expect(turn).toMatchObject({ created: false, known: true, answerSequenceNumber: 4 })
        expect(turn.question).toMatchObject({ parent_message_id: first.messageId, sequence_number: 3 })
        expect(briefly(turn.history)).toEqual(briefly([first.question, first.answer]))
      })

      test('keeps a session’s owner, whoever asks', async () => {
        const tenant = newTenant()
        const { turn } = await converse(store, askIn(tenant, { owner: 'owner' }))
        const { sessionId } = turn
        for (const ownedBy of [null, 'owner']) {
          const again = await converse(store, askIn(tenant, { sessionId, owner: 'other', ownedBy }))
          expect(again.question.user_id).toBe('owner')
        }
      })

      test('in another user’s session is refused', async () => {
        const tenant = newTenant()
        const { turn } = await converse(store, askIn(tenant, { owner: 'owner' }))
        const request = askIn(tenant, { sessionId: turn.sessionId, owner: 'other', ownedBy: 'other' })
        expect(await refused(store.openTurn(request))).toMatchObject({ code: 'not_found' })
      })

      test('in another tenant’s session is refused, and changes nothing there', async () => {
        const tenant = newTenant()
        const { turn } = await converse(store, askIn(tenant))
        const { sessionId } = turn
        for (const other of [newTenant(), { ...tenant, platform: 'app' }])
          expect(await refused(store.openTurn(askIn(other, { sessionId })))).toMatchObject({
            code: 'not_found',
          })
        const next = await opened(store.openTurn(askIn(tenant, { sessionId })))
        expect(next.question.sequence_number).toBe(3)
      })

      test('in an ended session is refused, and in a purged one as if it had never been', async () => {
        const tenant = newTenant()
        const [ended, purged] = await Promise.all([
          converse(store, askIn(tenant)),
          converse(store, askIn(tenant)),
        ])
        await backEnd.endSession(tenant, ended.turn.sessionId)
        await backEnd.purgeSession(tenant, purged.turn.sessionId)
        const into = (told: Told) =>
          refused(store.openTurn(askIn(tenant, { sessionId: told.turn.sessionId })))
        expect(await into(ended)).toMatchObject({ code: 'ended' })
        expect(await into(purged)).toMatchObject({ code: 'not_found' })
      })

      test('for no parent begins anew, for an earlier answer makes a branch', async () => {
        const tenant = newTenant()
        const first = await converse(store, askIn(tenant), '첫째')
        const { sessionId } = first.turn
        const second = await converse(store, askIn(tenant, { sessionId }), '둘째')
        const root = await converse(store, askIn(tenant, { sessionId, parentMessageId: null }), '뿌리')
        expect(root.turn).toMatchObject({ answerSequenceNumber: 2, history: [] })
        expect(root.question).toMatchObject({ parent_message_id: null, sequence_number: 1 })
        const branch = await converse(
          store,
          askIn(tenant, { sessionId, parentMessageId: first.messageId }),
          '가지',
        )
        expect(branch.question).toMatchObject({ parent_message_id: first.messageId, sequence_number: 3 })
        expect(briefly(branch.turn.history)).toEqual(briefly([first.question, first.answer]))
        // The newest answer is the one that was asked for last, and not the one furthest on.
        const next = await opened(store.openTurn(askIn(tenant, { sessionId })))
        expect(next.question.parent_message_id).toBe(branch.messageId)
        expect(next.question.parent_message_id).not.toBe(second.messageId)
      })

      test('after a stopped or an interrupted answer goes on', async () => {
        const tenant = newTenant()
        for (const status of ['stopped', 'interrupted'] as const) {
          const first = await converse(store, askIn(tenant), '여기까', { status })
          const { sessionId } = first.turn
          const next = askIn(tenant, { sessionId, parentMessageId: first.messageId })
          expect((await opened(store.openTurn(next))).history).toHaveLength(2)
        }
      })

      test('for a parent that is no finished answer of its thread is refused, and leaves nothing', async () => {
        const tenant = newTenant()
        const first = await converse(store, askIn(tenant))
        const { sessionId } = first.turn
        const elsewhere = await converse(store, askIn(tenant))
        const thread = await converse(store, askIn(tenant, { sessionId, threadId: 'other' }))
        const stranger = await converse(store, askIn(newTenant()))
        const deleted = await converse(store, askIn(tenant, { sessionId }))
        await backEnd.deleteMessage(tenant, deleted.messageId)
        const running = askIn(tenant, { sessionId, parentMessageId: first.messageId })
        await opened(store.openTurn(running))
        const parents = [
          uuidv7(),
          first.question.id,
          elsewhere.messageId,
          thread.messageId,
          stranger.messageId,
          deleted.messageId,
          running.messageId,
        ]
        for (const parentMessageId of parents)
          expect(await refused(store.openTurn(askIn(tenant, { sessionId, parentMessageId })))).toMatchObject({
            code: 'invalid_request',
            details: [{ field: 'parentMessageId' }],
          })
        const fresh = askIn(tenant, { parentMessageId: first.messageId })
        expect(await refused(store.openTurn(fresh))).toMatchObject({ code: 'invalid_request' })
        // The session that was not made can be.
        const made = await opened(store.openTurn({ ...fresh, parentMessageId: undefined }))
        expect(made).toMatchObject({ created: true, answerSequenceNumber: 2 })
      })

      test('in a busy thread is refused, until its answer has ended', async () => {
        const tenant = newTenant()
        const request = askIn(tenant)
        const { sessionId } = request
        const turn = await opened(store.openTurn(request))
        const next = askIn(tenant, { sessionId })
        const busy = { code: 'reply_in_progress', details: { messageId: request.messageId } }
        expect(await refused(store.openTurn(next))).toMatchObject(busy)
        expect(
          (await opened(store.openTurn(askIn(tenant, { sessionId, threadId: '다른 실' })))).created,
        ).toBe(false)
        const lease = leaseOf(tenant, request.messageId)
        await store.close(lease, [], answerTo(turn, request.messageId, '답'))
        expect(await refused(store.openTurn(next))).toMatchObject(busy)
        await store.finish(lease, { id: 0, event: done(turn, request.messageId) })
        expect((await opened(store.openTurn(next))).question.sequence_number).toBe(3)
      })

      test('in a busy thread is allowed beside the answer, for a parent that is named', async () => {
        const tenant = newTenant()
        const first = await converse(store, askIn(tenant))
        const { sessionId } = first.turn
        await opened(store.openTurn(askIn(tenant, { sessionId })))
        for (const parentMessageId of [first.messageId, null])
          await opened(store.openTurn(askIn(tenant, { sessionId, parentMessageId })))
      })

      test('where a writer is gone says so and changes nothing; after its rescue it goes on', async () => {
        const tenant = newTenant()
        const request = askIn(tenant)
        const { sessionId } = request
        const turn = await opened(lost.openTurn(request))
        const lapsed = { outcome: 'lapsed', messageId: request.messageId }
        const next = askIn(tenant, { sessionId, idempotency: { caller: 'u1', key: 'k', bodyHash: 'h' } })
        expect(await store.openTurn(next)).toEqual(lapsed)
        expect(await store.openTurn({ ...next, parentMessageId: request.messageId })).toEqual(lapsed)
        const taken = await store.takeOver(tenant, request.messageId)
        expect(taken).toBeDefined()
        expect(await refused(store.openTurn(next))).toMatchObject({ code: 'reply_in_progress' })
        await tell(store, tenant, { ...turn, epoch: 2 }, request.messageId, '')
        const opening = await opened(store.openTurn(next))
        expect(opening.question).toMatchObject({ parent_message_id: request.messageId, sequence_number: 3 })
      })
    })

    describe('an idempotency key', () => {
      const named = (tenant: Tenant, changes: Partial<TurnRequest> = {}, bodyHash = 'h', key = 'k') =>
        askIn(tenant, { idempotency: { caller: 'u1', key, bodyHash }, ...changes })

      test('names its turn, running or ended, for the same body and tells another one', async () => {
        const tenant = newTenant()
        const first = named(tenant)
        const turn = await opened(store.openTurn(first))
        const claim = {
          outcome: 'claimed',
          sessionId: first.sessionId,
          userMessageId: first.question.id,
          messageId: first.messageId,
        }
        const again = async () => {
          expect(await store.openTurn(named(tenant))).toEqual({ ...claim, bodyMatches: true })
          expect(await store.openTurn(named(tenant, {}, 'other'))).toEqual({ ...claim, bodyMatches: false })
        }
        await again()
        const told = await tell(store, tenant, turn, first.messageId, '답')
        await again()
        await backEnd.save([told.question, told.answer])
        await again()
      })

      test('belongs to its caller and its tenant', async () => {
        const tenant = newTenant()
        await opened(store.openTurn(named(tenant)))
        const other = { idempotency: { caller: 'u2', key: 'k', bodyHash: 'h' } }
        await opened(store.openTurn(named(tenant, other)))
        await opened(store.openTurn(named(newTenant())))
        await opened(store.openTurn(named({ ...tenant, platform: 'app' })))
        await opened(store.openTurn(named(tenant, {}, 'h', 'K')))
      })

      test('may be any printable text', async () => {
        const tenant = newTenant()
        for (const key of ['~'.repeat(255), ' ', '{a}:{b}', `'";--`, '%']) {
          const first = named(tenant, {}, 'h', key)
          await opened(store.openTurn(first))
          expect(await store.openTurn(named(tenant, {}, 'h', key))).toMatchObject({
            outcome: 'claimed',
            messageId: first.messageId,
          })
        }
      })

      test('of a request that was refused names nothing', async () => {
        const tenant = newTenant()
        const wrong = named(tenant, { parentMessageId: uuidv7() })
        expect(await refused(store.openTurn(wrong))).toMatchObject({ code: 'invalid_request' })
        await opened(store.openTurn(named(tenant, {}, 'another body')))
      })

      test('makes one turn of fifty requests at one instant', async () => {
        const tenant = newTenant()
        const sessionId = uuidv7()
        const requests = Array.from({ length: 50 }, () => named(tenant, { sessionId }))
        const outcomes = await Promise.all(requests.map((request) => store.openTurn(request)))
        const winners = outcomes.filter(({ outcome }) => outcome === 'opened')
        expect(winners).toHaveLength(1)
        const winner = requests[outcomes.findIndex(({ outcome }) => outcome === 'opened')]
        for (const outcome of outcomes)
          if (outcome.outcome !== 'opened')
            expect(outcome).toEqual({
              outcome: 'claimed',
              bodyMatches: true,
              sessionId,
              userMessageId: winner?.question.id,
              messageId: winner?.messageId,
            })
      })
    })

    describe('the history', () => {
      test('holds the newest messages, oldest first, saved or not', async () => {
        const tenant = newTenant()
        const told: Told[] = []
        const sessionId = uuidv7()
        for (let index = 0; index < 5; index += 1)
          told.push(await converse(store, askIn(tenant, { sessionId }), `답 ${index}`))
        const records = told.flatMap(({ question, answer }) => [question, answer])
        const newest = briefly(records.slice(-HISTORY))
        const branch = () => askIn(tenant, { sessionId, parentMessageId: told[4]?.messageId ?? null })
        const unsaved = await opened(store.openTurn(branch()))
        expect(briefly(unsaved.history)).toEqual(newest)
        await backEnd.save(records.slice(0, 7))
        expect(briefly((await opened(store.openTurn(branch()))).history)).toEqual(newest)
        await backEnd.save(records)
        expect(briefly((await opened(store.openTurn(branch()))).history)).toEqual(newest)
        expect((await opened(store.openTurn(branch()))).question.sequence_number).toBe(11)
      })

      test('passes over what is deleted or empty, and follows it', async () => {
        const tenant = newTenant()
        const sessionId = uuidv7()
        const ask = (content: string) => askIn(tenant, { sessionId, question: { content } })
        await converse(store, ask('물음 1'), '답 1')
        const deleted = await converse(store, ask('물음 2'), '지운 답')
        await converse(store, ask('물음 3'), '', { status: 'interrupted' })
        const pointer = await converse(store, ask('물음 4'), '', { content_key: 'content/a/b' })
        await backEnd.deleteMessage(tenant, deleted.messageId)
        const turn = await opened(
          store.openTurn(askIn(tenant, { sessionId, parentMessageId: pointer.messageId })),
        )
        expect(textsOf(turn.history)).toEqual(['답 1', '물음 2', '물음 3', '물음 4', ''])
        expect(turn.history.at(-1)).toMatchObject({ content_key: 'content/a/b' })
      })

      test('of a branch is that branch', async () => {
        const tenant = newTenant()
        const sessionId = uuidv7()
        const ask = (content: string, parentMessageId?: string | null) =>
          askIn(tenant, { sessionId, parentMessageId, question: { content } })
        const root = await converse(store, ask('물음'), '답')
        const left = await converse(store, ask('왼쪽', root.messageId), '왼쪽 답')
        const right = await converse(store, ask('오른쪽', root.messageId), '오른쪽 답')
        const leftmost = await opened(store.openTurn(ask('왼쪽 끝', left.messageId)))
        expect(textsOf(leftmost.history)).toEqual(['물음', '답', '왼쪽', '왼쪽 답'])
        const rightmost = await opened(store.openTurn(ask('오른쪽 끝', right.messageId)))
        expect(textsOf(rightmost.history)).toEqual(['물음', '답', '오른쪽', '오른쪽 답'])
      })

      test('never holds more text than one response may, and then whole messages, the newest', async () => {
        const tenant = newTenant()
        const long = backEnd.open({ leaseSeconds: LEASE_SECONDS, historyMessages: 50 })
        const sessionId = uuidv7()
        const text = '가'.repeat(8_000)
        const told: Told[] = []
        for (let index = 0; index < 20; index += 1)
          told.push(
            await converse(
              long,
              askIn(tenant, { sessionId, question: { content: `${index}물${text}` } }),
              `${index}답${text}`,
            ),
          )
        const { history } = await opened(long.openTurn(askIn(tenant, { sessionId })))
        const bytes = history.reduce((sum, { content }) => sum + Buffer.byteLength(content), 0)
        expect(bytes).toBeLessThanOrEqual(HISTORY_BYTES)
        // A message is more than its text.
        expect(bytes).toBeGreaterThan(0.85 * HISTORY_BYTES)
        const records = told.flatMap(({ question, answer }) => [question, answer])
        expect(briefly(history)).toEqual(briefly(records.slice(-history.length)))
      })

      test('of a thread has nothing of another', async () => {
        const tenant = newTenant()
        const sessionId = uuidv7()
        const threads = ['main', '둘째 실 {}:*', 'x'.repeat(200)]
        for (const threadId of threads)
          await converse(store, askIn(tenant, { sessionId, threadId }), threadId)
        for (const threadId of threads) {
          const turn = await opened(store.openTurn(askIn(tenant, { sessionId, threadId })))
          expect(turn.history.map(({ content }) => content).at(-1)).toBe(threadId)
          expect(turn.history).toHaveLength(2)
        }
      })
    })

    describe('reopening a question', () => {
      test('by itself or by its answer opens a sibling of the answer', async () => {
        const tenant = newTenant()
        const sessionId = uuidv7()
        const first = await converse(store, askIn(tenant, { sessionId }))
        const second = await converse(store, askIn(tenant, { sessionId }), '둘째')
        for (const target of [second.question.id, second.messageId]) {
          const again = await reconverse(store, { tenant, ownedBy: 'u1', target }, '다시')
          expect(again.turn).toMatchObject({ created: false, known: true, epoch: 1, answerSequenceNumber: 4 })
          expect(brief(again.question)).toEqual(brief(second.question))
          expect(again.question.user_id).toBe('u1')
          expect(briefly(again.turn.history)).toEqual(briefly([first.question, first.answer]))
          const next = await converse(store, askIn(tenant, { sessionId }))
          expect(next.question.parent_message_id).toBe(again.messageId)
        }
      })

      test('does so for what was saved, too', async () => {
        const tenant = newTenant()
        const told = await converse(store, askIn(tenant))
        await backEnd.save([told.question, told.answer])
        const again = await reconverse(store, { tenant, ownedBy: null, target: told.messageId }, '다시')
        expect(brief(again.question)).toEqual(brief(told.question))
        const turn = await readTurn(store, tenant, told.question.id, again.messageId)
        expect(turn?.answer).toMatchObject({ content: '다시', parent_message_id: told.question.id })
      })

      test('is refused for what is not there, not one’s own, deleted or purged', async () => {
        const tenant = newTenant()
        const told = await converse(store, askIn(tenant))
        const deleted = await converse(store, askIn(tenant))
        await backEnd.deleteMessage(tenant, deleted.question.id)
        const purged = await converse(store, askIn(tenant))
        await backEnd.purgeSession(tenant, purged.turn.sessionId)
        const attempts: [Tenant, string | null, string][] = [
          [tenant, null, uuidv7()],
          [tenant, 'other', told.messageId],
          [newTenant(), null, told.messageId],
          [newTenant(), null, told.question.id],
          [tenant, null, deleted.question.id],
          [tenant, null, purged.messageId],
        ]
        for (const [who, ownedBy, target] of attempts)
          expect(
            await refused(store.reopenTurn({ tenant: who, ownedBy, target, messageId: uuidv7() })),
          ).toMatchObject({ code: 'not_found', message: 'There is no such message.' })
        const ended = await converse(store, askIn(tenant))
        await backEnd.endSession(tenant, ended.turn.sessionId)
        const again = { tenant, ownedBy: null, target: ended.messageId, messageId: uuidv7() }
        expect(await refused(store.reopenTurn(again))).toMatchObject({ code: 'ended' })
      })

      test('is refused while an answer to it runs, and says so where its writer is gone', async () => {
        const tenant = newTenant()
        const running = askIn(tenant)
        await opened(store.openTurn(running))
        const gone = askIn(tenant)
        await opened(lost.openTurn(gone))
        for (const target of [running.question.id, running.messageId])
          expect(
            await refused(store.reopenTurn({ tenant, ownedBy: null, target, messageId: uuidv7() })),
          ).toMatchObject({ code: 'reply_in_progress', details: { messageId: running.messageId } })
        for (const target of [gone.question.id, gone.messageId])
          expect(await store.reopenTurn({ tenant, ownedBy: null, target, messageId: uuidv7() })).toEqual({
            outcome: 'lapsed',
            messageId: gone.messageId,
          })
      })

      test('takes the thread as a question does, and counts no question twice', async () => {
        const tenant = newTenant()
        const told = await converse(store, askIn(tenant))
        const messageId = uuidv7()
        const turn = await opened(
          store.reopenTurn({ tenant, ownedBy: null, target: told.messageId, messageId }),
        )
        const next = askIn(tenant, { sessionId: told.turn.sessionId })
        expect(await refused(store.openTurn(next))).toMatchObject({
          code: 'reply_in_progress',
          details: { messageId },
        })
        expect(await store.close(leaseOf(tenant, messageId), [], answerTo(turn, messageId, '다시'))).toBe(3)
      })
    })

    describe('the reply log', () => {
      test('gives every reader what was appended, in order, and what follows any event', async () => {
        const tenant = newTenant()
        const request = askIn(tenant)
        const turn = await opened(store.openTurn(request))
        const lease = leaseOf(tenant, request.messageId)
        const events: ReplyEvent[] = [
          {
            type: 'session',
            sessionId: request.sessionId,
            threadId: 'main',
            userMessageId: request.question.id,
            messageId: request.messageId,
            created: true,
          },
          { type: 'status', stage: 'analyzing', message: '질문을 살펴보고 있습니다' },
          ...Array.from({ length: 8 }, (_, index) => token(`${index}`)),
        ]
        expect(await store.append(lease, [])).toEqual({ held: true, stopRequested: false })
        const batches = [
          { first: 0, events: events.slice(0, 1) },
          { first: 1, events: events.slice(1, 6) },
        ]
        expect(await store.append(lease, batches)).toEqual({ held: true, stopRequested: false })
        await store.append(lease, [{ first: 6, events: events.slice(6) }])
        const numbered = events.map((event, id) => ({ id, event }))
        for (let after = -1; after < events.length; after += 1) {
          const page = await store.readLog(tenant, null, request.messageId, after)
          expect(page).toMatchObject({ finished: false, lapsed: false, erased: false, userId: 'u1' })
          expect(page?.events).toEqual(numbered.slice(after + 1))
        }
        const { terminal } = await (async () => {
          await store.close(lease, [], answerTo(turn, request.messageId, '01234567'))
          expect(await store.readLog(tenant, null, request.messageId, -1)).toMatchObject({ finished: false })
          const last = { id: events.length, event: done(turn, request.messageId) }
          expect(await store.finish(lease, last)).toBe(true)
          return { terminal: last }
        })()
        expect(await readAll(store, tenant, request.messageId)).toMatchObject({
          events: [...numbered, terminal],
          finished: true,
        })
        expect(await store.readLog(tenant, null, request.messageId, terminal.id)).toMatchObject({
          events: [],
          finished: true,
          lapsed: false,
        })
      })

      test('is the same when appends, the close and the end are repeated', async () => {
        const tenant = newTenant()
        const request = askIn(tenant)
        const turn = await opened(store.openTurn(request))
        const lease = leaseOf(tenant, request.messageId)
        const batches = [
          { first: 0, events: [token('가'), token('나')] },
          { first: 2, events: [token('다')] },
        ]
        for (let times = 0; times < 3; times += 1)
          expect(await store.append(lease, batches)).toMatchObject({ held: true })
        const tail = [...batches, { first: 3, events: [token('라')] }]
        const answer = answerTo(turn, request.messageId, '가나다라')
        for (let times = 0; times < 3; times += 1) expect(await store.close(lease, tail, answer)).toBe(2)
        expect(await store.append(lease, tail)).toMatchObject({ held: true })
        const terminal = { id: 4, event: done(turn, request.messageId) }
        expect(await store.finish(lease, terminal)).toBe(true)
        await store.finish(lease, { id: 5, event: done(turn, request.messageId) })
        expect((await readAll(store, tenant, request.messageId)).events).toEqual([
          ...['가', '나', '다', '라'].map((text, id) => ({ id, event: token(text) })),
          terminal,
        ])
      })

      test('carries text of every kind as it is', async () => {
        const tenant = newTenant()
        const request = askIn(tenant)
        await opened(store.openTurn(request))
        const texts = [
          '한국어 ㄱㅏ 각',
          '😀👩‍👩‍👧‍👦\u{1f1f0}\u{1f1f7}',
          '"\\/\b\f\n\r\t',
          '\u2028\u2029\ufeff\ufffe\uffff\u0001\u007f',
          `{"type":"token"} ' ; -- $1 :p0 %s {}`,
          '가'.repeat(5_000),
          ' ',
        ]
        await store.append(leaseOf(tenant, request.messageId), [{ first: 0, events: texts.map(token) }])
        expect((await readAll(store, tenant, request.messageId)).events).toEqual(
          texts.map((text, id) => ({ id, event: token(text) })),
        )
      })

      test('may be long: it is read page by page, each event once', async () => {
        const tenant = newTenant()
        const request = askIn(tenant)
        await opened(store.openTurn(request))
        const lease = leaseOf(tenant, request.messageId)
        const events = Array.from({ length: 3_000 }, (_, index) => token(`${index} ${'가'.repeat(120)}`))
        for (let first = 0; first < events.length; first += 1_000)
          await store.append(lease, [{ first, events: events.slice(first, first + 1_000) }])
        const all = await readAll(store, tenant, request.messageId)
        expect(all.events.map(({ id }) => id)).toEqual(events.map((_, index) => index))
        expect(all.events.map(({ event }) => event)).toEqual(events)
        const rest = await readAll(store, tenant, request.messageId, 2_500)
        expect(rest.events.map(({ id }) => id)).toEqual(events.map((_, index) => index).slice(2_501))
      })

      test('is not told to those who do not own it, nor for what is no turn', async () => {
        const tenant = newTenant()
        const { messageId, question } = await converse(store, askIn(tenant, { owner: 'owner' }))
        expect(await store.readLog(tenant, 'owner', messageId, -1)).toMatchObject({ userId: 'owner' })
        expect(await store.readLog(tenant, 'other', messageId, -1)).toBeUndefined()
        for (const id of [uuidv7(), question.id])
          expect(await store.readLog(tenant, null, id, -1)).toBeUndefined()
      })

      test('says that its message was deleted or its session purged', async () => {
        const tenant = newTenant()
        const deleted = await converse(store, askIn(tenant))
        const purged = await converse(store, askIn(tenant))
        const ended = await converse(store, askIn(tenant))
        await backEnd.deleteMessage(tenant, deleted.messageId)
        await backEnd.purgeSession(tenant, purged.turn.sessionId)
        await backEnd.endSession(tenant, ended.turn.sessionId)
        for (const [told, erased] of [
          [deleted, true],
          [purged, true],
          [ended, false],
        ] as const)
          expect(await store.readLog(tenant, null, told.messageId, -1)).toMatchObject({ erased })
      })
    })

    describe('a lease', () => {
      test('is renewed by an append, with events or without', async () => {
        const tenant = newTenant()
        for (const batches of [[], [{ first: 0, events: [token('가')] }]]) {
          const request = askIn(tenant)
          await opened(lost.openTurn(request))
          const isLapsed = async () => (await store.readLog(tenant, null, request.messageId, -1))?.lapsed
          expect(await isLapsed()).toBe(true)
          expect(await store.append(leaseOf(tenant, request.messageId), batches)).toMatchObject({
            held: true,
          })
          expect(await isLapsed()).toBe(false)
        }
      })

      test('is renewed by the close', async () => {
        const tenant = newTenant()
        const request = askIn(tenant)
        const turn = await opened(lost.openTurn(request))
        const lease = leaseOf(tenant, request.messageId)
        expect(await store.close(lease, [], answerTo(turn, request.messageId, '답'))).toBe(2)
        expect(await store.takeOver(tenant, request.messageId)).toBeUndefined()
      })

      test('of another epoch, of no turn and of an ended one writes nothing', async () => {
        const tenant = newTenant()
        const request = askIn(tenant)
        const turn = await opened(store.openTurn(request))
        const ended = await converse(store, askIn(tenant))
        const batches = [{ first: 0, events: [token('가짜')] }]
        for (const lease of [
          leaseOf(tenant, request.messageId, 2),
          leaseOf(tenant, request.messageId, 0),
          leaseOf(tenant, uuidv7()),
          leaseOf(tenant, ended.messageId),
        ]) {
          const answer = answerTo(turn, lease.messageId, '가짜')
          expect(await store.append(lease, batches)).toEqual({ held: false, stopRequested: false })
          expect(await store.close(lease, batches, answer)).toBeUndefined()
          expect(await store.finish(lease, { id: 1, event: done(turn, lease.messageId) })).toBe(false)
        }
        expect((await readAll(store, tenant, request.messageId)).events).toEqual([])
        expect((await readAll(store, tenant, ended.messageId)).events).toHaveLength(2)
      })

      test('does not end a turn that was not closed', async () => {
        const tenant = newTenant()
        const request = askIn(tenant)
        const turn = await opened(store.openTurn(request))
        const lease = leaseOf(tenant, request.messageId)
        expect(await store.finish(lease, { id: 0, event: done(turn, request.messageId) })).toBe(false)
        expect(await store.readLog(tenant, null, request.messageId, -1)).toMatchObject({
          finished: false,
          events: [],
        })
      })

      test('counts the session’s messages as they are made', async () => {
        const tenant = newTenant()
        const sessionId = uuidv7()
        for (const count of [2, 4, 6]) {
          const request = askIn(tenant, { sessionId })
          const turn = await opened(store.openTurn(request))
          const lease = leaseOf(tenant, request.messageId)
          expect(await store.close(lease, [], answerTo(turn, request.messageId, '답'))).toBe(count)
          await store.finish(lease, { id: 0, event: done(turn, request.messageId) })
        }
      })
    })

    describe('taking a turn over', () => {
      test('is for one, once its lease has run out', async () => {
        const tenant = newTenant()
        const held = askIn(tenant)
        await opened(store.openTurn(held))
        expect(await store.takeOver(tenant, held.messageId)).toBeUndefined()
        expect(await store.takeOver(tenant, uuidv7())).toBeUndefined()
        const told = await converse(store, askIn(tenant))
        expect(await store.takeOver(tenant, told.messageId)).toBeUndefined()

        const request = askIn(tenant)
        await opened(lost.openTurn(request))
        const takers = await Promise.all(
          Array.from({ length: 20 }, () => store.takeOver(tenant, request.messageId)),
        )
        expect(takers.filter((taker) => taker !== undefined)).toHaveLength(1)
      })

      test('gives all that ending it needs, and shuts its old writer out', async () => {
        const tenant = newTenant()
        const request = askIn(tenant, { owner: 'owner', threadId: '실' })
        const turn = await opened(lost.openTurn(request))
        const old = leaseOf(tenant, request.messageId)
        await lost.append(old, [{ first: 0, events: [token('반')] }])
        const taken = await store.takeOver(tenant, request.messageId)
        expect(taken).toEqual({
          saved: undefined,
          turn: {
            lease: leaseOf(tenant, request.messageId, 2),
            state: 'running',
            sessionId: request.sessionId,
            threadId: '실',
            userId: 'owner',
            questionId: request.question.id,
            question: turn.question,
            answer: undefined,
            answerSequenceNumber: 2,
            openedAt: expect.any(String),
            onSave: turn.onSave,
          },
        })
        expect(Date.parse(taken?.turn.openedAt ?? '')).toBe(Date.parse(turn.openedAt))
        const late = answerTo(turn, request.messageId, '늦은 답')
        expect(await store.append(old, [{ first: 1, events: [token('늦은')] }])).toEqual({
          held: false,
          stopRequested: false,
        })
        expect(await store.close(old, [], late)).toBeUndefined()
        expect(await store.finish(old, { id: 1, event: done(turn, request.messageId) })).toBe(false)
        const told = await tell(store, tenant, { ...turn, epoch: 2 }, request.messageId, '반', {
          status: 'interrupted',
        })
        expect((await readAll(store, tenant, request.messageId)).events).toEqual([
          { id: 0, event: token('반') },
          told.terminal,
        ])
        const read = await readTurn(store, tenant, request.question.id, request.messageId)
        expect(read?.answer).toMatchObject({ content: '반', status: 'interrupted' })
      })

      test('of a closing one gives the answer it was closed with, which no later close changes', async () => {
        const tenant = newTenant()
        const request = askIn(tenant)
        const turn = await opened(lost.openTurn(request))
        const lease = leaseOf(tenant, request.messageId)
        const answer = answerTo(turn, request.messageId, '온 답', {
          sources: [{ id: 's', title: '제목', score: 0.5, excerpt: '발췌 😀' }],
          metadata: { finishReason: 'stop', 값: ['가', 1, null, { 나: true }] },
        })
        expect(await lost.close(lease, [], answer)).toBe(2)
        const other = answerTo(turn, request.messageId, '다른 답')
        expect(await lost.close(lease, [], other)).toBe(2)
        const taken = await store.takeOver(tenant, request.messageId)
        expect(taken?.turn).toMatchObject({ state: 'closing', lease: { epoch: 2 } })
        expect(normal(taken?.turn.answer)).toEqual(normal(answer))
        expect(await store.close(leaseOf(tenant, request.messageId, 2), [], other)).toBe(2)
        await store.finish(leaseOf(tenant, request.messageId, 2), {
          id: 0,
          event: done(turn, request.messageId),
        })
        const read = await readTurn(store, tenant, request.question.id, request.messageId)
        expect(read?.answer?.content).toBe('온 답')
      })

      test('of a question and an answer as large as they may be gives both, whole', async () => {
        const tenant = newTenant()
        const text = '가나다라'.repeat(1_600) // 19 KB; above 24 KB as JSON a text moves to the bucket
        const metadata = { note: 'x'.repeat(7_900) }
        const request = askIn(tenant)
        request.question.content = text
        request.question.metadata = metadata
        const turn = await opened(lost.openTurn(request))
        const sources = [{ id: 's', title: '제목', score: 0.5, excerpt: 'y'.repeat(11_000) }]
        const answer = answerTo(turn, request.messageId, text, { sources, metadata })
        await lost.close(leaseOf(tenant, request.messageId), [], answer)
        const taken = await store.takeOver(tenant, request.messageId)
        expect(taken?.turn.question?.content).toBe(text)
        expect(normal(taken?.turn.answer)).toEqual(normal(answer))
      })

      test('of a second answer has no question to save', async () => {
        const tenant = newTenant()
        const told = await converse(store, askIn(tenant))
        const messageId = uuidv7()
        await opened(lost.reopenTurn({ tenant, ownedBy: null, target: told.messageId, messageId }))
        const taken = await store.takeOver(tenant, messageId)
        expect(taken?.turn).toMatchObject({ questionId: told.question.id, answerSequenceNumber: 2 })
        expect(taken?.turn.question).toBeUndefined()
      })

      test('whose answer was saved is allowed at once, and gives that answer', async () => {
        const tenant = newTenant()
        for (const status of ['complete', 'stopped', 'interrupted'] as const) {
          const request = askIn(tenant)
          const turn = await opened(store.openTurn(request))
          const answer = answerTo(turn, request.messageId, '저장된 답', { status })
          await backEnd.save([turn.question, answer])
          const taken = await store.takeOver(tenant, request.messageId)
          if (status === 'interrupted') expect(taken).toBeUndefined()
          else {
            expect(taken?.turn.state).toBe('running')
            expect(taken?.saved).toMatchObject({
              id: request.messageId,
              content: '저장된 답',
              status,
              session_id: request.sessionId,
              parent_message_id: request.question.id,
              sequence_number: 2,
              user_id: 'u1',
            })
          }
        }
      })
    })

    describe('stopping', () => {
      test('is heard by the writer’s next append', async () => {
        const tenant = newTenant()
        const request = askIn(tenant, { owner: 'owner' })
        await opened(store.openTurn(request))
        const { messageId } = request
        expect(await store.requestStop(tenant, 'other', messageId)).toBeUndefined()
        expect(await store.append(leaseOf(tenant, messageId), [])).toMatchObject({ stopRequested: false })
        for (const ownedBy of ['owner', null])
          expect(await store.requestStop(tenant, ownedBy, messageId)).toEqual({
            finished: false,
            lapsed: false,
          })
        for (let times = 0; times < 2; times += 1)
          expect(await store.append(leaseOf(tenant, messageId), [])).toEqual({
            held: true,
            stopRequested: true,
          })
      })

      test('changes nothing where the answer is whole or has ended', async () => {
        const tenant = newTenant()
        const request = askIn(tenant)
        const turn = await opened(store.openTurn(request))
        const lease = leaseOf(tenant, request.messageId)
        await store.close(lease, [], answerTo(turn, request.messageId, '답'))
        const finished = { finished: true, lapsed: false }
        expect(await store.requestStop(tenant, null, request.messageId)).toEqual(finished)
        expect(await store.append(lease, [])).toEqual({ held: true, stopRequested: false })
        await store.finish(lease, { id: 0, event: done(turn, request.messageId) })
        expect(await store.requestStop(tenant, null, request.messageId)).toEqual(finished)
      })

      test('says where the writer is gone, where only the message is left, and where there is nothing', async () => {
        const tenant = newTenant()
        const gone = askIn(tenant)
        await opened(lost.openTurn(gone))
        expect(await store.requestStop(tenant, null, gone.messageId)).toEqual({
          finished: false,
          lapsed: true,
        })
        const { turn } = await converse(store, askIn(tenant))
        const id = uuidv7()
        await backEnd.save([answerTo(turn, id, '오래된 답')])
        expect(await store.requestStop(tenant, 'u1', id)).toEqual({ finished: true, lapsed: false })
        expect(await store.requestStop(tenant, 'other', id)).toBeUndefined()
        expect(await store.requestStop(tenant, null, uuidv7())).toBeUndefined()
      })
    })

    describe('watching', () => {
      test('tells which turns have not ended, and when their leases run out', async () => {
        const [one, two] = [newTenant(), newTenant()]
        const [running, closing, gone] = [askIn(one), askIn(two), askIn(two)]
        await opened(store.openTurn(running))
        const turn = await opened(store.openTurn(closing))
        await store.close(leaseOf(two, closing.messageId), [], answerTo(turn, closing.messageId, '답'))
        await opened(lost.openTurn(gone))
        const ended = await converse(store, askIn(one))
        const watched = [
          { ...one, messageId: running.messageId },
          { ...two, messageId: closing.messageId },
          { ...two, messageId: gone.messageId },
          { ...one, messageId: ended.messageId },
          { ...one, messageId: uuidv7() },
          { ...two, messageId: running.messageId },
        ]
        const found = await store.unfinished(watched)
        expect(found.map(({ lapsesInSeconds, ...turn }) => turn)).toEqual(
          expect.arrayContaining(watched.slice(0, 3)),
        )
        expect(found).toHaveLength(3)
        for (const { messageId, lapsesInSeconds } of found)
          if (messageId === gone.messageId) expect(lapsesInSeconds).toBeLessThanOrEqual(0)
          else {
            expect(lapsesInSeconds).toBeGreaterThan(0)
            expect(lapsesInSeconds).toBeLessThanOrEqual(LEASE_SECONDS)
          }
        expect(await store.unfinished([])).toEqual([])
      })

      test('finds the turns of all tenants that have lost their writers, so many of each', async () => {
        const [many, few, none] = [newTenant(), newTenant(), newTenant()]
        const lose = async (tenant: Tenant) => {
          const request = askIn(tenant)
          await opened(lost.openTurn(request))
          return request.messageId
        }
        const losing = [await lose(many), await lose(many), await lose(many), await lose(few)]
        await opened(store.openTurn(askIn(none)))
        await converse(lost, askIn(none))
        const of = (tenant: Tenant, found: Awaited<ReturnType<HotStore['lapsed']>>) =>
          found.filter(({ companyId }) => companyId === tenant.companyId)
        const all = await store.lapsed(1_000)
        expect(new Set([...of(many, all), ...of(few, all)].map(({ messageId }) => messageId))).toEqual(
          new Set(losing),
        )
        expect(of(few, all)).toEqual([{ ...few, messageId: losing[3] }])
        expect(of(none, all)).toEqual([])
        const some = await store.lapsed(2)
        expect(of(many, some)).toHaveLength(2)
        expect(of(few, some)).toHaveLength(1)
      })
    })

    describe('reading a turn', () => {
      test('gives its question at once, its answer when it has ended, and the same when it was saved', async () => {
        const tenant = newTenant()
        const request = askIn(tenant, {
          question: { metadata: { attachments: [uuidv7()], 값: '가' }, content: '물음 😀' },
        })
        const turn = await opened(store.openTurn(request))
        const read = () => readTurn(store, tenant, request.question.id, request.messageId)
        const first = await read()
        expect(first).toMatchObject({ answer: undefined, sessionMessageCount: 1 })
        expect(columns(first?.question)).toEqual(columns(turn.question))
        const answer = answerTo(turn, request.messageId, '답', {
          sources: [{ id: 's', title: '제목', score: 0.25, url: 'https://example.com' }],
          model: '모델',
        })
        const lease = leaseOf(tenant, request.messageId)
        await store.close(lease, [], answer)
        expect((await read())?.answer).toBeUndefined()
        await store.finish(lease, { id: 0, event: done(turn, request.messageId) })
        const check = async () => {
          const found = await read()
          expect(found?.sessionMessageCount).toBe(2)
          expect(columns(found?.question)).toEqual(columns(turn.question))
          expect(columns(found?.answer)).toEqual(columns(answer))
          expect(found?.answer).toMatchObject({ is_deleted: false, satisfaction_score: null })
        }
        await check()
        await backEnd.save([turn.question])
        await check()
        await backEnd.save([turn.question, answer])
        await check()
        await backEnd.deleteMessage(tenant, request.messageId)
        expect((await read())?.answer).toMatchObject({ is_deleted: true })
      })

      test('gives nothing for a question that is not there', async () => {
        const tenant = newTenant()
        const told = await converse(store, askIn(tenant))
        expect(await readTurn(store, tenant, uuidv7(), told.messageId)).toBeUndefined()
        expect(await readTurn(store, tenant, told.question.id, uuidv7())).toMatchObject({ answer: undefined })
      })

      test('gives records back that are as large as any', async () => {
        const tenant = newTenant()
        // JSON writes a line break in two bytes, and the text may have so many.
        const special = `${'\u{1f600}'.repeat(500)}${'"\\\n'.repeat(1_000)}`
        const left = MAX_INLINE_BYTES - Buffer.byteLength(JSON.stringify(special))
        const content = `${special}${'가'.repeat(Math.floor(left / 3))}`
        const metadata = { 값: '나'.repeat(2_700) }
        const request = askIn(tenant, { question: { content, metadata } })
        const turn = await opened(lost.openTurn(request))
        const sources = [{ id: 's', title: '제목', score: 0.125, excerpt: '발췌'.repeat(60) }]
        const answer = answerTo(turn, request.messageId, content, { sources })
        await lost.close(leaseOf(tenant, request.messageId), [], answer)
        const taken = await store.takeOver(tenant, request.messageId)
        expect(normal(taken?.turn.question)).toEqual(normal(turn.question))
        expect(normal(taken?.turn.answer)).toEqual(normal(answer))
        await store.finish(leaseOf(tenant, request.messageId, 2), {
          id: 0,
          event: done(turn, request.messageId),
        })
        const read = await readTurn(store, tenant, request.question.id, request.messageId)
        expect(columns(read?.question)).toEqual(columns(turn.question))
        expect(columns(read?.answer)).toEqual(columns(answer))
        const next = await opened(store.openTurn(askIn(tenant, { sessionId: request.sessionId })))
        expect(textsOf(next.history)).toEqual([content, content])
      })
    })

    describe('a tenant', () => {
      const strangersTo = ({ companyId, platform }: Tenant): Tenant[] => [
        { companyId: `other ${companyId}`, platform },
        { companyId, platform: 'app' },
        { companyId: `${companyId}' or '1'='1`, platform },
        { companyId: `${companyId}:${platform}`, platform: 'app' },
        { companyId, platform: `${platform}:app` },
        { companyId: '*', platform: '*' },
        { companyId: `{${companyId}}`, platform: `{${platform}}` },
        { companyId: '회사 😀', platform: '웹' },
      ]

      test('finds nothing of another by any operation, and changes nothing', async () => {
        const tenant = newTenant()
        const told = await converse(store, askIn(tenant), '비밀')
        const running = askIn(tenant)
        const turn = await opened(store.openTurn(running))
        const gone = askIn(tenant)
        await opened(lost.openTurn(gone))
        const ids = [told.messageId, running.messageId, gone.messageId]
        const snapshot = async () => ({
          logs: await Promise.all(ids.map((id) => store.readLog(tenant, null, id, -1))),
          turn: await readTurn(store, tenant, told.question.id, told.messageId),
          running: (await store.unfinished(ids.map((messageId) => ({ ...tenant, messageId }))))
            .map(({ messageId }) => messageId)
            .sort(),
        })
        const before = await snapshot()
        for (const stranger of strangersTo(tenant)) {
          for (const messageId of ids) {
            const lease = leaseOf(stranger, messageId)
            const batches = [{ first: 1, events: [token('남의 것')] }]
            expect(await store.readLog(stranger, null, messageId, -1)).toBeUndefined()
            expect(await store.requestStop(stranger, null, messageId)).toBeUndefined()
            expect(await store.takeOver(stranger, messageId)).toBeUndefined()
            expect(await store.append(lease, batches)).toEqual({ held: false, stopRequested: false })
            expect(await store.close(lease, batches, answerTo(turn, messageId, '남의 것'))).toBeUndefined()
            expect(await store.finish(lease, { id: 9, event: done(turn, messageId) })).toBe(false)
            expect(
              await refused(
                store.reopenTurn({ tenant: stranger, ownedBy: null, target: messageId, messageId: uuidv7() }),
              ),
            ).toMatchObject({ code: 'not_found' })
          }
          expect(await readTurn(store, stranger, told.question.id, told.messageId)).toBeUndefined()
          expect(await store.unfinished(ids.map((messageId) => ({ ...stranger, messageId })))).toEqual([])
          expect(
            await refused(store.openTurn(askIn(stranger, { sessionId: running.sessionId }))),
          ).toMatchObject({ code: 'not_found' })
        }
        expect(await snapshot()).toEqual(before)
      })

      test('has turns of its own, whatever it is called and whatever ids another one uses', async () => {
        const all = [newTenant(), ...strangersTo(newTenant())]
        const messageId = uuidv7()
        for (const [index, tenant] of all.entries())
          await converse(store, askIn(tenant, { messageId }), `답 ${index}`)
        for (const [index, tenant] of all.entries())
          expect((await store.readLog(tenant, null, messageId, -1))?.events[0]).toEqual({
            id: 0,
            event: token(`답 ${index}`),
          })
      })
    })

    describe('at one instant', () => {
      test('a hundred questions in one thread make one turn', async () => {
        const tenant = newTenant()
        const { sessionId } = (await converse(store, askIn(tenant))).turn
        const requests = Array.from({ length: 100 }, () => askIn(tenant, { sessionId }))
        const outcomes = await Promise.allSettled(requests.map((request) => store.openTurn(request)))
        const winners = requests.filter((_, index) => outcomes[index]?.status === 'fulfilled')
        expect(winners).toHaveLength(1)
        for (const outcome of outcomes)
          if (outcome.status === 'rejected')
            expect(outcome.reason).toMatchObject({
              code: 'reply_in_progress',
              details: { messageId: winners[0]?.messageId },
            })
      })

      test('fifty questions in a session that is not there make one session', async () => {
        const tenant = newTenant()
        const sessionId = uuidv7()
        const turns = await Promise.all(
          Array.from({ length: 50 }, (_, index) =>
            opened(store.openTurn(askIn(tenant, { sessionId, threadId: `실 ${index}` }))),
          ),
        )
        expect(turns.filter(({ created }) => created)).toHaveLength(1)
        expect(turns.every(({ question }) => question.sequence_number === 1)).toBe(true)
      })

      test('thirty answers of one session are written, each its own', async () => {
        const tenant = newTenant()
        const sessionId = uuidv7()
        await converse(store, askIn(tenant, { sessionId }))
        const told = await Promise.all(
          Array.from({ length: 30 }, (_, index) =>
            converse(store, askIn(tenant, { sessionId, threadId: `실 ${index}` }), `답 ${index}`),
          ),
        )
        for (const [index, { messageId, terminal }] of told.entries())
          expect((await readAll(store, tenant, messageId)).events).toEqual([
            { id: 0, event: token(`답 ${index}`) },
            terminal,
          ])
        const [first] = told
        const read = await readTurn(store, tenant, first?.question.id ?? '', first?.messageId ?? '')
        expect(read?.sessionMessageCount).toBe(62)
      })

      test('an append and a take-over do not both win', async () => {
        const tenant = newTenant()
        for (let times = 0; times < 20; times += 1) {
          const request = askIn(tenant)
          await opened(lost.openTurn(request))
          const lease = leaseOf(tenant, request.messageId)
          const [appended, taken] = await Promise.all([
            store.append(lease, [{ first: 0, events: [token('가')] }]),
            store.takeOver(tenant, request.messageId),
          ])
          expect(appended.held).toBe(taken === undefined)
          expect((await readAll(store, tenant, request.messageId)).events).toHaveLength(appended.held ? 1 : 0)
        }
      })
    })
  })
}

for (const backEnd of backEnds) contract(backEnd)
