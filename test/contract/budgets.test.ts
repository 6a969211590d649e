/** Token budgets, as every hot store holds them: docs/limits.md. */
import { v7 as uuidv7 } from 'uuid'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Tenant } from '../../lambdas/protocol/callers.ts'
import type { QuotaDetails } from '../../lambdas/protocol/limits.ts'
import type { MessageRecord } from '../../lambdas/protocol/queue.ts'
import type { Budgets } from '../../lambdas/protocol/tenants.ts'
import type { HotStore, TurnRequest } from '../../lambdas/services/hot-store.ts'
import {
  answerTo,
  askIn,
  type BackEnd,
  backEnds,
  converse,
  leaseOf,
  newTenant,
  opened,
  refused,
  type StartedBackEnd,
  tell,
} from '../harness/hot-store.ts'
import { spending } from '../harness/spending.ts'

const QUESTION_TOKENS = 12
const ANSWER_TOKENS = 88
/** What is asked for one turn: question and answer. */
const TURN_TOKENS = QUESTION_TOKENS + ANSWER_TOKENS

/** When the one after this begins. */
const nextOf = (period: 'day' | 'month', now = new Date()): Date =>
  new Date(
    period === 'day'
      ? Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate() + 1)
      : Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 1, 1),
  )

/** An answer that has used so many tokens in all. */
const using = (tokens: number): Partial<MessageRecord> => ({
  token_count: 1,
  metadata: { promptTokens: tokens - 1 },
})

function contract({ name, skip, start }: BackEnd): void {
  describe.skipIf(skip !== undefined)(`a token budget on ${name}${skip ? ` (${skip})` : ''}`, () => {
    let backEnd: StartedBackEnd
    let store: HotStore
    /** Its writers are gone as soon as they have opened a turn. */
    let lost: HotStore
    beforeAll(async () => {
      backEnd = await start()
      store = backEnd.open({ leaseSeconds: 60, historyMessages: 5 })
      lost = backEnd.open({ leaseSeconds: 0, historyMessages: 5 })
    })
    afterAll(() => backEnd?.close())

    const ask = (
      tenant: Tenant,
      limits: Partial<Budgets>,
      more: Partial<Omit<TurnRequest, 'question'>> = {},
    ) => askIn(tenant, { spending: spending(limits, ANSWER_TOKENS), ...more })
    const quota = async (answer: Promise<unknown>): Promise<QuotaDetails> => {
      const { code, details } = await refused(answer)
      expect(code).toBe('quota_exceeded')
      return details as QuotaDetails
    }

    test.each([
      ['userTokensPerDay', 'user', 'day'],
      ['userTokensPerMonth', 'user', 'month'],
      ['tenantTokensPerDay', 'tenant', 'day'],
      ['tenantTokensPerMonth', 'tenant', 'month'],
    ] as const)('%s lets turns through until it is used up, and says so', async (budget, whose, period) => {
      const tenant = newTenant()
      const limits = { [budget]: 2 * TURN_TOKENS }
      await converse(store, ask(tenant, limits), 'an answer', using(TURN_TOKENS))
      await converse(store, ask(tenant, limits), 'an answer', using(TURN_TOKENS))
      const request = ask(tenant, limits)
      expect(await quota(store.openTurn(request))).toEqual({
        budget: whose,
        period,
        limit: 2 * TURN_TOKENS,
        used: 2 * TURN_TOKENS,
        resetsAt: nextOf(period).toISOString(),
      })
      const [other, stranger] = [ask(tenant, limits, { owner: 'u2' }), ask(newTenant(), limits)]
      if (whose === 'user') await opened(store.openTurn(other))
      else expect(await quota(store.openTurn(other))).toMatchObject({ budget: 'tenant' })
      await opened(store.openTurn(stranger))
      await opened(store.openTurn(ask({ ...tenant, platform: 'app' }, limits)))
    })

    test('of several that are used up, the one that is there again last is named', async () => {
      const tenant = newTenant()
      const limits = { userTokensPerDay: 0, tenantTokensPerMonth: 0, tenantTokensPerDay: 0 }
      expect(await quota(store.openTurn(ask(tenant, limits)))).toMatchObject({
        budget: 'tenant',
        period: 'month',
      })
    })

    test('of zero lets nothing through, and none at all lets everything', async () => {
      const tenant = newTenant()
      expect(await quota(store.openTurn(ask(tenant, { userTokensPerDay: 0 })))).toMatchObject({
        limit: 0,
        used: 0,
      })
      await converse(store, ask(tenant, {}), 'an answer', using(1_000_000))
      await opened(store.openTurn(askIn(tenant)))
    })

    test('refuses before anything is changed: no session, no turn, and the key names nothing', async () => {
      const tenant = newTenant()
      const idempotency = { caller: 'u1', key: 'k', bodyHash: 'h' }
      const request = ask(tenant, { userTokensPerDay: TURN_TOKENS - 1 }, { idempotency })
      await quota(store.openTurn(request))
      expect(await store.readTurn(tenant, request.question.id, request.messageId)).toBeUndefined()
      expect(await store.readLog(tenant, null, request.messageId, -1)).toBeUndefined()
      const turn = await opened(
        store.openTurn({
          ...request,
          messageId: uuidv7(),
          spending: spending({ userTokensPerDay: TURN_TOKENS }),
        }),
      )
      expect(turn).toMatchObject({ created: true, answerSequenceNumber: 2 })
    })

    test('a repeated request finds its turn, also when the budget is used up', async () => {
      const tenant = newTenant()
      const idempotency = { caller: 'u1', key: 'k', bodyHash: 'h' }
      const request = ask(tenant, { userTokensPerDay: TURN_TOKENS }, { idempotency })
      await converse(store, request)
      expect(await store.openTurn({ ...request, messageId: uuidv7() })).toMatchObject({
        outcome: 'claimed',
        messageId: request.messageId,
      })
      expect(
        await store.openTurn({
          ...request,
          messageId: uuidv7(),
          spending: spending({ userTokensPerDay: 0 }),
        }),
      ).toMatchObject({ outcome: 'claimed' })
    })

    test('holds what a running turn may use, then what it has used, and counts it once when it is saved', async () => {
      const tenant = newTenant()
      const used = async () => (await quota(store.openTurn(ask(tenant, { userTokensPerDay: 0 })))).used
      const request = ask(tenant, { userTokensPerDay: 10_000 })
      const turn = await opened(store.openTurn(request))
      expect(await used()).toBe(TURN_TOKENS)
      const told = await tell(store, tenant, turn, request.messageId, 'an answer', using(30))
      expect(await used()).toBe(30)
      for (let time = 0; time < 2; time += 1) await backEnd.save([told.question, told.answer])
      expect(await used()).toBe(30)
    })

    test('counts what was used before there was one', async () => {
      const tenant = newTenant()
      const told = await converse(store, askIn(tenant), 'an answer', using(500))
      await backEnd.save([told.question, told.answer])
      expect(await quota(store.openTurn(ask(tenant, { userTokensPerDay: 550 })))).toMatchObject({ used: 500 })
    })

    test('is asked for a new answer to an old question, too', async () => {
      const tenant = newTenant()
      const { messageId } = await converse(store, ask(tenant, { userTokensPerDay: 1_000 }), 'one', using(900))
      const again = {
        tenant,
        ownedBy: null,
        target: messageId,
        messageId: uuidv7(),
        spending: spending({ userTokensPerDay: 1_000 - 1 }),
      }
      expect(await quota(store.reopenTurn(again))).toMatchObject({ used: 900 })
      await opened(store.reopenTurn({ ...again, spending: spending({ userTokensPerDay: 1_000 }) }))
    })

    test('is the session’s owner’s, whoever asks', async () => {
      const tenant = newTenant()
      const { turn } = await converse(
        store,
        ask(tenant, { userTokensPerDay: 500 }, { owner: 'owner' }),
        'an answer',
        using(450),
      )
      const asked = ask(tenant, { userTokensPerDay: 500 }, { sessionId: turn.sessionId, owner: 'agent' })
      expect(await quota(store.openTurn(asked))).toMatchObject({ budget: 'user', used: 450 })
    })

    test('of the tenant’s own acts from the next turn on; its users’ may be more than the environment’s, all of them together never', async () => {
      const tenant = newTenant()
      const limits = { userTokensPerDay: 150, tenantTokensPerDay: 250 }
      await converse(store, ask(tenant, limits), 'an answer', using(TURN_TOKENS))
      expect(await quota(store.openTurn(ask(tenant, limits)))).toMatchObject({ budget: 'user', limit: 150 })
      await backEnd.changeSettings(tenant, { userTokensPerDay: 5_000, tenantTokensPerDay: 5_000 })
      await settled(async () => (await store.openTurn(ask(tenant, limits))).outcome === 'opened')
      expect(await quota(store.openTurn(ask(tenant, limits)))).toMatchObject({
        budget: 'tenant',
        limit: 250,
        used: 2 * TURN_TOKENS,
      })
      await backEnd.changeSettings(tenant, { tenantTokensPerDay: 120 })
      await settled(async () => (await quota(store.openTurn(ask(tenant, limits)))).limit === 120)
      await backEnd.changeSettings(tenant, { userTokensPerDay: null, tenantTokensPerDay: null })
      await settled(async () => (await quota(store.openTurn(ask(tenant, limits)))).limit !== 120)
    })

    test('is asked for the tenant’s own prompt and longest answer', async () => {
      const tenant = newTenant()
      await backEnd.changeSettings(tenant, { systemPrompt: '가나다라 abcd', answerTokens: 50 })
      const needed = QUESTION_TOKENS + 4 + 2 + 50 // five characters of ASCII are two tokens
      await quota(store.openTurn(ask(tenant, { userTokensPerDay: needed - 1 })))
      await opened(store.openTurn(ask(tenant, { userTokensPerDay: needed })))
    })

    test('holds the history that goes with a question, at most as much as may go', async () => {
      const tenant = newTenant()
      const text = '이틀 안에 도착합니다.' // 10 tokens by their script, 2 more by spaces and the stop
      const limits = { userTokensPerDay: 100_000 }
      const { turn } = await converse(store, ask(tenant, limits), text, using(TURN_TOKENS))
      const open = async (historyTokens: number) => {
        const before = (await quota(store.openTurn(ask(tenant, { userTokensPerDay: 0 })))).used
        const request = askIn(tenant, {
          sessionId: turn.sessionId,
          spending: { ...spending(limits, ANSWER_TOKENS), historyTokens },
        })
        const next = await opened(store.openTurn(request))
        expect(next.history.length).toBeGreaterThan(0)
        const held = (await quota(store.openTurn(ask(tenant, { userTokensPerDay: 0 })))).used - before
        await tell(store, tenant, next, request.messageId, text, using(TURN_TOKENS))
        return held - TURN_TOKENS
      }
      expect(await open(7)).toBe(7)
      expect(await open(8_000)).toBeGreaterThan(20)
    })

    test('leaks nothing: turns whose writers die hold nothing, and rescued ones what they did use', async () => {
      const tenant = newTenant()
      const turns = process.env.DRILLS === 'long' ? 1_000 : 60
      const limits = { userTokensPerDay: TURN_TOKENS, tenantTokensPerMonth: TURN_TOKENS }
      const requests = Array.from({ length: turns }, () => ask(tenant, limits))
      // Each is lost at once, so each finds the whole budget.
      for (const request of requests) await opened(lost.openTurn(request))
      const used = async () => (await quota(store.openTurn(ask(tenant, { tenantTokensPerDay: 0 })))).used
      expect(await used()).toBe(0)
      const whole = ask(tenant, limits)
      const turn = await opened(store.openTurn(whole))
      await quota(store.openTurn(ask(tenant, limits)))
      await tell(store, tenant, turn, whole.messageId, 'an answer', using(7))
      for (const [index, { messageId }] of requests.entries()) {
        const taken = await store.takeOver(tenant, messageId)
        if (taken === undefined) expect.fail('it was not lost')
        const { question, sessionId, userId, openedAt, answerSequenceNumber, onSave, lease } = taken.turn
        const answer: MessageRecord = {
          ...whole.question,
          ...tenantColumns(tenant),
          id: messageId,
          session_id: sessionId,
          user_id: userId,
          role: 'assistant',
          status: 'interrupted',
          content: 'half',
          ...using(3),
          parent_message_id: question?.id ?? null,
          sequence_number: answerSequenceNumber,
          created_at: openedAt,
          ...(onSave && { on_save: onSave }),
        }
        await store.close(leaseOf(tenant, messageId, lease.epoch), [], answer)
        if (index % 2 === 0) await backEnd.save(question ? [question, answer] : [answer])
      }
      expect(await used()).toBe(7 + 3 * turns)
    }, 600_000)

    test('counts an answer once that was saved before a rescuer could close its turn', async () => {
      const tenant = newTenant()
      const request = ask(tenant, { userTokensPerDay: 10_000 })
      const turn = await opened(lost.openTurn(request))
      const answer = answerTo(turn, request.messageId, 'an answer', using(30))
      await backEnd.save([turn.question, answer])
      const taken = await store.takeOver(tenant, request.messageId)
      if (taken === undefined) expect.fail('it was not lost')
      expect(await store.close(taken.turn.lease, [], answer)).toEqual(expect.any(Number))
      expect(await quota(store.openTurn(ask(tenant, { userTokensPerDay: 0 })))).toMatchObject({ used: 30 })
    })

    test('of 150 turns at once that 100 fit into lets exactly 100 through', async () => {
      const tenant = newTenant()
      const limits = { tenantTokensPerDay: 100 * TURN_TOKENS }
      const stores = Array.from({ length: 10 }, () => backEnd.open({ leaseSeconds: 60, historyMessages: 5 }))
      const answers = await Promise.allSettled(
        Array.from({ length: 150 }, (_, index) =>
          (stores[index % 10] ?? store).openTurn(ask(tenant, limits, { owner: `u${index % 40}` })),
        ),
      )
      const outcomes = answers.map((answer) =>
        answer.status === 'fulfilled' ? answer.value.outcome : answer.reason.code,
      )
      expect(
        Object.entries(Object.groupBy(outcomes, (one) => one)).map(([one, all]) => [one, all?.length]),
      ).toEqual(
        expect.arrayContaining([
          ['opened', 100],
          ['quota_exceeded', 50],
        ]),
      )
    }, 120_000)
  })
}

const tenantColumns = ({ companyId, platform }: Tenant) => ({ company_id: companyId, platform })

/** Settings act at once where they are read with the turn, and within seconds where they are remembered. */
async function settled(isSo: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; ; tries += 1) {
    if (await isSo().catch(() => false)) return
    if (tries > 100) expect.fail('the change has not acted')
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

backEnds.forEach(contract)
