/** What one turn of a conversation that is under way asks of every service, in calls and in bytes: none creeps in. */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ANSWER, budgets, QUESTION } from '../fixtures/turn-budget.ts'
import { judgeTurn } from '../harness/judge-turn.ts'
import { type MeteredProduct, type MeteredTurn, startMeteredProduct } from '../harness/metered-turn.ts'
import { inBothPhases } from '../harness/turnkeep.ts'

/**
 * A machine that stands still for longer than a heartbeat makes an append more, for longer than a lease a watch more. That is
 * another turn's chance; a call that was added is in each of them.
 */
const ATTEMPTS = 5
const TURN_MS = 60_000
const DOCUMENT = resolve(import.meta.dirname, '../../docs/performance.md')

inBothPhases('a turn in a conversation that is under way', ({ valkey }) => {
  const phase = valkey ? 2 : 1
  let product: MeteredProduct
  let turn: MeteredTurn
  beforeAll(async () => {
    product = await startMeteredProduct('turn_calls', valkey)
  })
  afterAll(() => product.close())

  test(
    'uses what its budget says, of all functions and services',
    async () => {
      let problems: string[] = []
      for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
        const { reply } = await product.ask(QUESTION, ANSWER)
        turn = await product.ask(QUESTION, ANSWER, reply.session?.sessionId)
        problems = judgeTurn(phase, turn, budgets[phase])
        if (problems.length === 0) break
      }
      expect(problems).toEqual([])
    },
    ATTEMPTS * TURN_MS,
  )

  test(
    'made again asks for nothing that the turn did not ask for',
    async () => {
      const { used } = await product.regenerate(turn.reply.session?.messageId ?? '', ANSWER)
      const known = [...Object.keys(budgets[phase].used), ...AGAIN[phase]]
      expect([...used.keys()].filter((key) => !known.includes(key))).toEqual([])
    },
    TURN_MS,
  )

  test('with one call more, one byte of each token more or a row more is refused, and says where to explain it', () => {
    const after = (change: (copy: MeteredTurn) => void): string[] => {
      const copy = structuredClone(turn)
      change(copy)
      return judgeTurn(phase, copy, budgets[phase])
    }
    expect(after(() => undefined)).toEqual([])
    const added = after(({ used }) => used.set('chat secretsmanager GetSecretValue', { calls: 1, bytes: 90 }))
    expect(added).toEqual([
      expect.stringMatching(
        /"chat secretsmanager GetSecretValue" once, .* 0 times .*docs\/performance\.md .*must say why/,
      ),
    ])
    const twice = after(({ used }) => used.set('chat sqs SendMessageBatch', { calls: 3, bytes: 4_000 }))
    expect(twice).toEqual([expect.stringContaining('"chat sqs SendMessageBatch" 3 times')])
    expect(after((copy) => (copy.tokenBytes += ANSWER.length))).toEqual([
      expect.stringMatching(/^Bytes to the client for tokens have grown from 499 to 509/),
    ])
    expect(after(({ stored }) => stored.set('audit_log', { rows: 1, bytes: 200 }))).toEqual([
      expect.stringContaining('1 rows to audit_log'),
    ])
  })
})

/** In place of claiming a key and opening: whose session it is, which question, and the new turn. */
const AGAIN = { 1: [], 2: ['cache HGET', 'cache reopen'] }

describe('docs/performance.md', () => {
  test('says of each call of a turn why it is made, and of no other', () => {
    const document = readFileSync(DOCUMENT, 'utf8')
    for (const [phase, { used }] of Object.entries(budgets)) {
      const [, table = ''] =
        new RegExp(`### A turn in phase ${phase}\\n([\\s\\S]*?)\\n#`).exec(document) ?? []
      const rows = [...table.matchAll(/^\| `(.+?)` \| (\d+) \| .{10,} \|$/gm)].map(([, key, calls]) => [
        key,
        Number(calls),
      ])
      expect(rows.sort()).toEqual(
        Object.entries(used)
          .map(([key, { calls }]) => [key, calls])
          .sort(),
      )
    }
  })
})
