/** What answers allocate, and what a stream that is open holds on to. Counted, not timed: it is the same on any machine. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { MEMORY_TOLERANCE, memoryBudgets } from '../fixtures/turn-budget.ts'
import { type ReplyCore, startReplyCore, TOKENS_A_STEP } from '../harness/reply-core.ts'
import { inBothPhases } from '../harness/turnkeep.ts'

const ANSWERS = 20
const STEPS = 9
/** Until what runs often has been compiled: allocations are fewer then. */
const WARM_UPS = 5
const ROUNDS = 3
const OPEN = 60
const OPEN_STEPS = 2
const OPEN_ROUNDS = 3
const TEST_MS = 90_000

/** A machine that stands still for a moment makes an append more, or a connection: it adds, and never takes away. */
const least = (values: number[]): number => Math.min(...values)

inBothPhases('the memory of answers', ({ valkey }) => {
  const budget = memoryBudgets[valkey ? 2 : 1]
  let core: ReplyCore
  beforeAll(async () => {
    core = await startReplyCore('turn_memory', valkey)
  })
  afterAll(() => core.close())

  /** More is too much; less means that the budget would let the next change take it back unseen. */
  function expectWithin(measured: number, name: keyof typeof budget): void {
    const words = `${name}: ${Math.round(measured)} bytes, its budget in test/fixtures/turn-budget.ts is ${budget[name]}; where that is right, docs/performance.md ("Guards") must say why`
    expect(measured, words).toBeLessThan(budget[name] * (1 + MEMORY_TOLERANCE))
    expect(measured, words).toBeGreaterThan(budget[name] * (1 - MEMORY_TOLERANCE))
  }

  test(
    'a turn and a thousand tokens allocate what their budget says',
    async () => {
      for (let round = 0; round < WARM_UPS; round += 1) await core.answer(ANSWERS, STEPS)
      const short: number[] = []
      const long: number[] = []
      for (let round = 0; round < ROUNDS; round += 1) {
        short.push(await core.allocatedBy(() => core.answer(ANSWERS, 1)))
        long.push(await core.allocatedBy(() => core.answer(ANSWERS, STEPS)))
      }
      const thousands = (ANSWERS * (STEPS - 1) * TOKENS_A_STEP) / 1_000
      expectWithin(least(short) / ANSWERS, 'allocatedPerTurn')
      expectWithin((least(long) - least(short)) / thousands, 'allocatedPer1000Tokens')
    },
    TEST_MS,
  )

  test(
    'an open stream holds what its budget says, and gives it back',
    async () => {
      const held: number[] = []
      const left: number[] = []
      for (let round = 0; round < OPEN_ROUNDS; round += 1) {
        const before = await core.usedBytes()
        let open = 0
        await core.answer(OPEN, OPEN_STEPS, async () => {
          open = await core.usedBytes()
        })
        held.push((open - before) / OPEN)
        left.push(((await core.usedBytes()) - before) / OPEN)
      }
      expectWithin(least(held), 'heldPerOpenStream')
      expect(least(left)).toBeLessThan(budget.heldPerOpenStream / 10)
    },
    TEST_MS,
  )
})
