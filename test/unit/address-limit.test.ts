import { describe, expect, test } from 'vitest'
import type { LimitCheck, LimitState } from '../../lambdas/protocol/limits.ts'
import { openAddressLimit } from '../../lambdas/runtime/address-limit.ts'

const ADDRESS = '203.0.113.9'

/** A shared limiter in this process, and instances in front of it, by a clock that stands until it is moved. */
function start(limit = 100) {
  let time = 1_000
  let isReachable = true
  const told: LimitCheck[] = []
  const unchecked: unknown[] = []
  const admit = async (checks: readonly LimitCheck[]): Promise<LimitState[]> => {
    if (!isReachable) throw new Error('out of reach')
    return checks.map((check) => {
      const { kind, windowSeconds, key, count = 1 } = check
      const used = told.filter((one) => one.key === key).reduce((sum, one) => sum + (one.count ?? 1), 0)
      const allowed = used + count <= limit
      if (allowed) told.push(check)
      const remaining = limit - used - (allowed ? count : 0)
      return {
        kind,
        limit,
        windowSeconds,
        allowed,
        remaining,
        resetSeconds: 60,
        retryAfterSeconds: allowed ? 0 : 30,
      }
    })
  }
  const instance = () =>
    openAddressLimit({
      limiter: { admit },
      keyOf: async (network) => `hash of ${network}`,
      limit,
      windowSeconds: 60,
      onUnchecked: (error) => unchecked.push(error),
      now: () => time,
    })
  return {
    instance,
    told,
    unchecked,
    pass: (seconds: number) => {
      time += seconds * 1_000
    },
    reachable: (is: boolean) => {
      isReachable = is
    },
  }
}

const many = async (count: number, ask: (network: string) => Promise<LimitState>, network = ADDRESS) =>
  Promise.all(Array.from({ length: count }, () => ask(network)))
const allowed = (states: LimitState[]): number => states.filter((state) => state.allowed).length

describe('requests without a valid token', () => {
  test('are let through up to the limit, exactly, however many come at once', async () => {
    const { instance } = start()
    const states = await many(150, instance())
    expect(allowed(states)).toBe(100)
    expect(states[0]).toMatchObject({ kind: 'address', limit: 100, remaining: 99, resetSeconds: 60 })
    expect(states[149]).toMatchObject({ allowed: false, remaining: 0, retryAfterSeconds: 60 })
  })

  test('cost no call while they are few', async () => {
    const { instance, told, pass } = start()
    const ask = instance()
    for (let minute = 0; minute < 20; minute += 1) {
      await many(10, ask)
      pass(60)
    }
    expect(told).toEqual([])
  })

  test('are told of all together when they are no longer few, and one by one then', async () => {
    const { instance, told } = start()
    const ask = instance()
    await many(12, ask)
    expect(told).toMatchObject([{ key: `hash of ${ADDRESS}`, count: 11 }, { count: 1 }])
  })

  test('cost no call beyond the limit, also where it was reached elsewhere', async () => {
    const { instance, told, pass } = start()
    const [here, there] = [instance(), instance()]
    expect(allowed(await many(95, there))).toBe(95)
    const states = await many(60, here)
    // Ten are this instance's own, whatever the others count; at most the five that are left there come on top.
    expect(allowed(states)).toBeGreaterThanOrEqual(10)
    expect(allowed(states)).toBeLessThanOrEqual(15)
    expect(states[59]).toMatchObject({ allowed: false, remaining: 0 })
    const calls = told.length
    const late = await here(ADDRESS)
    expect(late).toMatchObject({ allowed: false, retryAfterSeconds: 30 })
    expect(told.length).toBe(calls)
    pass(31)
    await here(ADDRESS)
    pass(60)
    expect(await here(ADDRESS)).toMatchObject({ allowed: true })
  })

  test('of one address say nothing about another', async () => {
    const { instance } = start(5)
    const ask = instance()
    expect(allowed(await many(9, ask))).toBe(5)
    expect(allowed(await many(9, ask, '203.0.113.10'))).toBe(5)
  })

  test('are let through again as the oldest are forgotten', async () => {
    const { instance, pass } = start(5)
    const ask = instance()
    await many(3, ask)
    pass(30)
    expect(allowed(await many(5, ask))).toBe(2)
    expect(await ask(ADDRESS)).toMatchObject({ allowed: false, retryAfterSeconds: 30 })
  })

  test('are counted by each instance for itself while the shared limiter is out of reach', async () => {
    const { instance, reachable, unchecked, told } = start()
    reachable(false)
    const ask = instance()
    expect(allowed(await many(50, ask))).toBe(50)
    expect(unchecked).toHaveLength(40)
    reachable(true)
    expect(allowed(await many(100, ask))).toBe(50)
    expect(told[0]).toMatchObject({ count: 51 })
  })

  test('from everywhere do not fill the memory', async () => {
    const { instance } = start(5)
    const ask = instance()
    expect(allowed(await many(9, ask, 'first'))).toBe(5)
    await Promise.all(Array.from({ length: 5_001 }, (_, index) => ask(`address ${index}`)))
    expect(await ask('first')).toMatchObject({ kind: 'address' }) // known to the shared limiter alone by now
  })

  test('are all refused where the limit is 0', async () => {
    const { instance, told } = start(0)
    expect(await instance()(ADDRESS)).toMatchObject({ allowed: false, remaining: 0, retryAfterSeconds: 60 })
    expect(told).toEqual([])
  })
})
