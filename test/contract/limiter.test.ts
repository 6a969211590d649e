/** What every limiter does, whatever it stands on: by the server's clock; windows are short, so that nobody waits long. */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { v7 as uuidv7 } from 'uuid'
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import type { Tenant } from '../../lambdas/protocol/callers.ts'
import { CodedError } from '../../lambdas/protocol/errors.ts'
import type { Admission, LimitCheck, LimitState } from '../../lambdas/protocol/limits.ts'
import type { HotStore } from '../../lambdas/services/hot-store.ts'
import type { Limiter } from '../../lambdas/services/limiter.ts'
import {
  askIn,
  type BackEnd,
  backEnds,
  newTenant,
  opened,
  type StartedBackEnd,
} from '../harness/hot-store.ts'

/** Longer than any test takes: nothing is forgotten in between. */
const LONG_SECONDS = 3_600
const HOUR_MS = 3_600_000

const user = (tenant: Tenant, key: string, limit: number, windowSeconds = LONG_SECONDS): LimitCheck => ({
  kind: 'user',
  tenant,
  key,
  limit,
  windowSeconds,
})
const all = (tenant: Tenant, limit: number, windowSeconds = LONG_SECONDS): LimitCheck => ({
  ...user(tenant, '', limit, windowSeconds),
  kind: 'tenant',
})
const address = (key: string, limit: number, count?: number): LimitCheck => ({
  kind: 'address',
  key,
  limit,
  windowSeconds: LONG_SECONDS,
  ...(count === undefined ? {} : { count }),
})
const times = <Result>(count: number, work: (index: number) => Promise<Result>): Promise<Result[]> =>
  Promise.all(Array.from({ length: count }, (_, index) => work(index)))
const isAllowed = (states: readonly LimitState[]): boolean => states.every(({ allowed }) => allowed)

function contract({ name, skip, start }: BackEnd): void {
  describe.skipIf(skip !== undefined)(`a rate limit on ${name}${skip ? ` (${skip})` : ''}`, () => {
    let backEnd: StartedBackEnd
    let limiter: Limiter
    beforeAll(async () => {
      backEnd = await start()
      limiter = backEnd.openLimiter()
    })
    afterEach(() => {
      vi.useRealTimers()
    })
    afterAll(() => backEnd?.close())

    const admit = (...checks: LimitCheck[]): Promise<LimitState[]> => limiter.admit(checks)
    const admitted = async (count: number, ...checks: LimitCheck[]): Promise<number> =>
      (await times(count, () => admit(...checks))).filter(isAllowed).length

    test('admits exactly 100 of 150 that come at once, through two instances', async () => {
      const tenant = newTenant()
      const instances = [limiter, backEnd.openLimiter()]
      const checks = [user(tenant, '하늘 😀', 100), all(tenant, 6_000)]
      const states = await times(150, (index) => instances[index % 2]?.admit(checks) ?? Promise.resolve([]))
      expect(states.filter(isAllowed)).toHaveLength(100)
      const refused = states.find(([first]) => !first?.allowed)
      expect(refused).toMatchObject([
        { kind: 'user', limit: 100, remaining: 0 },
        { kind: 'tenant', allowed: true, remaining: 5_900 },
      ])
      const left = states.filter(isAllowed).map(([first]) => first?.remaining ?? -1)
      expect(left.sort((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, index) => index))
    })

    test('admits as many, whatever time the instances believe it is', async () => {
      const tenant = newTenant()
      const check = user(tenant, 'skewed', 10, 60)
      let count = 0
      for (const skewMs of [0, HOUR_MS, -HOUR_MS]) {
        vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + skewMs })
        count += (await times(6, () => admit(check))).filter(isAllowed).length
        vi.useRealTimers()
      }
      expect(count).toBe(10)
    })

    test('of a tenant admits exactly as many, whoever of its users asks', async () => {
      const tenant = newTenant()
      const states = await times(60, (index) =>
        admit(user(tenant, `member ${index % 7}`, 100), all(tenant, 40)),
      )
      expect(states.filter(isAllowed)).toHaveLength(40)
    })

    test('counts apart what is not the same user, tenant or address', async () => {
      const [tenant, other] = [newTenant(), newTenant()]
      const [key, another] = [randomUUID(), randomUUID()]
      const names = [
        { tenant, key: 'u1' },
        { tenant, key: 'u1:' },
        { tenant, key: 'u1}' },
        { tenant: { ...tenant, platform: 'app' }, key: 'u1' },
        { tenant: { companyId: `${tenant.companyId}:web`, platform: '' }, key: 'u1' },
        { tenant: other, key: 'u1' },
      ]
      const checks = [
        ...names.map((one) => user(one.tenant, one.key, 1)),
        all(tenant, 1),
        all(other, 1),
        address(key, 1),
        address(another, 1),
      ]
      for (const check of checks) expect(await admit(check)).toMatchObject([{ allowed: true }])
      for (const check of checks) expect(await admit(check)).toMatchObject([{ allowed: false }])
    })

    test('is used up by none of the requests that another limit refuses', async () => {
      const tenant = newTenant()
      expect(await admitted(3, all(tenant, 3))).toBe(3)
      expect(await admitted(20, user(tenant, 'innocent', 5), all(tenant, 3))).toBe(0)
      expect(await admit(user(tenant, 'innocent', 5))).toMatchObject([{ allowed: true, remaining: 4 }])
      expect(await admitted(10, user(tenant, 'innocent', 5), all(tenant, 100))).toBe(4)
      expect(await admit(all(tenant, 100))).toMatchObject([{ remaining: 92 }])
    })

    test('comes back as the oldest requests leave the window, and never lets more through than it says', async () => {
      const check = user(newTenant(), 'patient', 5, 2)
      expect(await admitted(3, check)).toBe(3)
      await sleep(1_000)
      expect(await admitted(10, check)).toBe(2)
      const [refused] = await admit(check)
      expect(refused).toMatchObject({ allowed: false, remaining: 0 })
      expect([1, 2]).toContain(refused?.retryAfterSeconds)
      await sleep((refused?.retryAfterSeconds ?? 0) * 1_000 + 100)
      // The first three are forgotten; the two that came a second later may be, too.
      const again = await admitted(10, check)
      expect(again).toBeGreaterThanOrEqual(3)
      expect(again).toBeLessThanOrEqual(5)
    })

    test('says how many are left, and when the oldest is forgotten', async () => {
      const check = user(newTenant(), 'counting', 3, 20)
      const { kind, limit, windowSeconds } = check
      expect(await admit(check)).toEqual([
        { kind, limit, windowSeconds, allowed: true, remaining: 2, resetSeconds: 20, retryAfterSeconds: 0 },
      ])
      await sleep(1_100)
      await admit(check)
      const [last] = await admit(check)
      expect(last).toMatchObject({ remaining: 0, retryAfterSeconds: 0 })
      expect(last?.resetSeconds).toBeLessThan(20)
      const [refused] = await admit(check)
      expect(refused).toMatchObject({ allowed: false, resetSeconds: refused?.retryAfterSeconds })
    })

    test('says when so many have been forgotten that the request has room', async () => {
      const key = randomUUID()
      const check = { ...address(key, 10), windowSeconds: 20 }
      await admit({ ...check, count: 4 })
      await sleep(2_100)
      await admit({ ...check, count: 6 })
      const [one] = await admit(check)
      const [many] = await admit({ ...check, count: 5 })
      expect(one).toMatchObject({ allowed: false, resetSeconds: one?.retryAfterSeconds })
      expect(many?.retryAfterSeconds).toBeGreaterThan(one?.retryAfterSeconds ?? 20)
      // More than it may ever be: not before everything is forgotten.
      const [never] = await admit({ ...check, count: 11 })
      expect(never?.retryAfterSeconds).toBeGreaterThanOrEqual(many?.retryAfterSeconds ?? 20)
    })

    test('that is lowered or raised acts with the next request', async () => {
      const tenant = newTenant()
      const changed = (limit: number, windowSeconds?: number) => user(tenant, 'changed', limit, windowSeconds)
      expect(await admitted(10, changed(100))).toBe(10)
      expect(await admit(changed(10))).toMatchObject([{ allowed: false, remaining: 0 }])
      expect(await admit(changed(4))).toMatchObject([{ allowed: false, remaining: 0 }])
      expect(await admitted(10, changed(12))).toBe(2)
      expect(await admit(changed(100))).toMatchObject([{ remaining: 87 }])
      // So does another window: what is older than it counts no more.
      await sleep(1_100)
      expect(await admit(changed(12, 1))).toMatchObject([{ allowed: true, remaining: 11 }])
    })

    test('of 0 admits nothing, and says to come back in a window', async () => {
      const tenant = newTenant()
      expect(await admit(user(tenant, 'nobody', 0, 60))).toMatchObject([
        { allowed: false, remaining: 0, resetSeconds: 60, retryAfterSeconds: 60 },
      ])
      expect(await admit(user(tenant, 'nobody', 1, 60))).toMatchObject([{ allowed: true }])
    })

    test('takes several requests at once, all or none', async () => {
      const [a, b] = [randomUUID(), randomUUID()]
      expect(await admit(address(a, 20, 11))).toMatchObject([{ allowed: true, remaining: 9 }])
      expect(await admit(address(a, 20, 11))).toMatchObject([{ allowed: false, remaining: 9 }])
      expect(await admit(address(a, 20, 9))).toMatchObject([{ allowed: true, remaining: 0 }])
      expect(await admit(address(b, 20))).toMatchObject([{ allowed: true, remaining: 19 }])
    })

    describe('that a tenant has set', () => {
      test('for its users stands in the place of the environment’s, more or less', async () => {
        const [tenant, neighbour] = [newTenant(), newTenant()]
        await backEnd.changeSettings(tenant, { userRequestsPerMinute: 3 })
        expect(await admitted(10, user(tenant, 'u1', 5), all(tenant, 100))).toBe(3)
        expect(await admit(user(tenant, 'u1', 5))).toMatchObject([{ limit: 3, allowed: false }])
        const generous = newTenant()
        await backEnd.changeSettings(generous, { userRequestsPerMinute: 9 })
        expect(await admitted(20, user(generous, 'u1', 5), all(generous, 100))).toBe(9)
        expect(await admitted(10, user(neighbour, 'u1', 5))).toBe(5)
      })

      test('for all of them is never more than the environment’s', async () => {
        const [small, large] = [newTenant(), newTenant()]
        await backEnd.changeSettings(small, { tenantRequestsPerMinute: 4 })
        await backEnd.changeSettings(large, { tenantRequestsPerMinute: 1_000 })
        expect(await admitted(20, user(small, 'u1', 100), all(small, 10))).toBe(4)
        expect(await admitted(20, user(large, 'u1', 100), all(large, 10))).toBe(10)
        expect(await admit(all(large, 10))).toMatchObject([{ limit: 10 }])
      })

      test('and changes acts within seconds, and counts what came before', async () => {
        const tenant = newTenant()
        expect(await admitted(10, user(tenant, 'u1', 8))).toBe(8)
        await backEnd.changeSettings(tenant, { userRequestsPerMinute: 10 })
        // What is remembered is a few seconds old at most.
        vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 15_000 })
        const limitNow = async () => (await admit(user(tenant, 'u2', 8)))[0]?.limit
        await expect.poll(limitNow, { timeout: 10_000 }).toBe(10)
        expect(await admitted(10, user(tenant, 'u1', 8))).toBe(2)
      })
    })

    describe('beside the opening of a turn', () => {
      const OPTIONS = { leaseSeconds: 60, historyMessages: 5 }
      let store: HotStore
      beforeAll(() => {
        store = backEnd.open(OPTIONS)
      })

      /** A question that is held to these limits, and what was told of them. */
      const question = (tenant: Tenant, limit: number, changes: Parameters<typeof askIn>[1] = {}) => {
        const told: LimitState[][] = []
        const admission: Admission = {
          checks: [user(tenant, 'u1', limit), all(tenant, 6_000)],
          settle(states) {
            told.push([...states])
            if (!isAllowed(states)) throw new CodedError('rate_limited', 'refused')
          },
        }
        return { request: askIn(tenant, { admission, sessionIsNew: true, ...changes }), told }
      }
      const codeOf = (error: unknown): string | undefined => (error as CodedError).code
      const remaining = (told: LimitState[][]) => told.map(([first]) => first?.remaining)

      test('lets exactly 20 of 30 turns open, and a refused one leaves nothing behind', async () => {
        const tenant = newTenant()
        const outcomes = await times(30, async (index) => {
          const idempotency = { caller: 'u1', key: `asked ${index}`, bodyHash: 'h' }
          const { request } = question(tenant, 20, { idempotency })
          const outcome = await store.openTurn(request).then((turn) => turn.outcome, codeOf)
          return { outcome, request }
        })
        expect(outcomes.filter(({ outcome }) => outcome === 'opened')).toHaveLength(20)
        for (const { outcome, request } of outcomes) {
          expect(['opened', 'rate_limited']).toContain(outcome)
          const log = await store.readLog(tenant, null, request.messageId, -1)
          expect(log !== undefined).toBe(outcome === 'opened')
          // Neither a session nor a key: another turn may be opened with both.
          if (outcome === 'opened') continue
          const { sessionId, idempotency } = request
          const again = askIn(tenant, { sessionId, sessionIsNew: true, idempotency, owner: 'u2' })
          expect(await opened(store.openTurn(again))).toMatchObject({ created: true })
        }
      })

      test('counts a question that is refused for itself, an answer that is attached to, and one made again', async () => {
        const tenant = newTenant()
        const idempotency = { caller: 'u1', key: 'once', bodyHash: 'h' }
        const first = question(tenant, 5, { idempotency })
        expect(await store.openTurn(first.request)).toMatchObject({ outcome: 'opened' })
        expect(remaining(first.told)).toEqual([4])

        const { sessionId, messageId } = first.request
        const busy = question(tenant, 5, { sessionId, sessionIsNew: false })
        expect(await store.openTurn(busy.request).catch(codeOf)).toBe('reply_in_progress')
        expect(remaining(busy.told)).toEqual([3])

        const again = question(tenant, 5, { idempotency })
        expect(await store.openTurn(again.request)).toMatchObject({ outcome: 'claimed', messageId })
        expect(remaining(again.told)).toEqual([2])

        const missing = question(tenant, 5)
        const reopening = { ...missing.request, target: uuidv7(), messageId: uuidv7() }
        expect(await store.reopenTurn(reopening).catch(codeOf)).toBe('not_found')
        expect(remaining(missing.told)).toEqual([1])

        await admit(user(tenant, 'u1', 5))
        const late = question(tenant, 5, { idempotency })
        expect(await store.openTurn(late.request).catch(codeOf)).toBe('rate_limited')
        expect(late.told).toMatchObject([[{ allowed: false, remaining: 0 }, { allowed: true }]])
      })

      test('does not count a question twice that has to wait for a rescue', async () => {
        const tenant = newTenant()
        const abandoned = question(tenant, 5)
        const lost = backEnd.open({ ...OPTIONS, leaseSeconds: 0 })
        await opened(lost.openTurn(abandoned.request))
        const { request } = question(tenant, 5, {
          sessionId: abandoned.request.sessionId,
          sessionIsNew: false,
        })
        expect(await store.openTurn(request)).toMatchObject({ outcome: 'lapsed' })
        expect(await store.openTurn(request)).toMatchObject({ outcome: 'lapsed' })
        const { messageId } = abandoned.request
        const taken = await store.takeOver(tenant, messageId)
        expect(taken?.turn.lease.messageId).toBe(messageId)
        const [state] = await admit(user(tenant, 'u1', 5))
        expect(state?.remaining).toBeGreaterThanOrEqual(2)
        expect(state?.remaining).toBeLessThanOrEqual(3)
      })
    })
  })
}

for (const backEnd of backEnds) contract(backEnd)
