import { expect, test } from 'vitest'
import { boundedMap } from '../../lambdas/services/bounded-map.ts'
import type { HotStore } from '../../lambdas/services/hot-store.ts'
import { openTurnsElsewhere } from '../../lambdas/services/turns-elsewhere.ts'

const MOST = 10_000
const TENANT = { companyId: 'c', platform: 'web' }

/** Says in everything that it is the one; `finish` tells by whether it succeeds. */
const store = (isElsewhere: boolean): Pick<HotStore, 'append' | 'close' | 'finish'> => ({
  append: async () => ({ held: true, stopRequested: isElsewhere }),
  close: async () => Number(isElsewhere),
  finish: async () => isElsewhere,
})
const open = () => openTurnsElsewhere(store(false), store(true))
const leaseOf = (messageId: string) => ({ tenant: TENANT, messageId, epoch: 1 })

test('a bounded map forgets what was put into it first', () => {
  const map = boundedMap<number>(2)
  map.set('a', 1)
  map.set('b', 2)
  map.set('a', 3)
  map.set('c', 4)
  expect(['a', 'b', 'c'].map(map.get)).toEqual([3, undefined, 4])
})

test('the turns that are written elsewhere are bounded, and the oldest is forgotten', () => {
  const turns = open()
  for (let turn = 0; turn <= MOST; turn += 1) turns.add(TENANT, `m${turn}`)
  expect(turns.has(TENANT, 'm0')).toBe(false)
  expect(turns.has(TENANT, 'm1')).toBe(true)
  expect(turns.has(TENANT, `m${MOST}`)).toBe(true)
})

test('a turn is written where it is until it has finished there', async () => {
  const turns = open()
  turns.add(TENANT, 'm')
  expect(await turns.writing.append(leaseOf('other'), [])).toMatchObject({ stopRequested: false })
  expect(await turns.writing.append(leaseOf('m'), [])).toMatchObject({ stopRequested: true })
  expect(turns.has({ ...TENANT, platform: 'app' }, 'm')).toBe(false)
  const terminal = { id: 0, event: { type: 'token', content: '' } } as const
  expect(await turns.writing.finish(leaseOf('m'), terminal)).toBe(true)
  expect(turns.has(TENANT, 'm')).toBe(false)
  expect(await turns.writing.finish(leaseOf('m'), terminal)).toBe(false)
})
