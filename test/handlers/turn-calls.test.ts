/** What a turn asks of every service, in calls and in bytes, first, next or made again: nothing creeps in. */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ANSWER, BY_THE_CLOCK, budgets, QUESTION, TURNS, type Turn } from '../fixtures/turn-budget.ts'
import { judgeTime, judgeTurn, type Uses } from '../harness/judge-turn.ts'
import { type MeteredProduct, type MeteredTurn, startMeteredProduct } from '../harness/metered-turn.ts'
import { inBothPhases } from '../harness/turnkeep.ts'

/** A call that is made in every second or third turn is in one of these. */
const CONVERSATIONS = 2
/** Where time has added a call to a turn, another conversation shows it without. */
const ATTEMPTS = 6
const CONVERSATION_MS = 60_000
const DOCUMENT = resolve(import.meta.dirname, '../../docs/performance.md')

const today = (): string => new Date().toISOString().slice(0, 10)

async function warmUp({ ask, regenerate }: MeteredProduct): Promise<void> {
  const { reply } = await ask(QUESTION, ANSWER.slice(0, 1))
  await regenerate(reply.session?.messageId ?? '', ANSWER.slice(0, 1))
}

async function converse({ ask, regenerate }: MeteredProduct): Promise<Record<Turn, MeteredTurn>> {
  const first = await ask(QUESTION, ANSWER)
  const next = await ask(QUESTION, ANSWER, first.reply.session?.sessionId)
  const again = await regenerate(next.reply.session?.messageId ?? '', ANSWER)
  return { first, next, again }
}

inBothPhases('a turn', ({ valkey }) => {
  const phase = valkey ? 2 : 1
  let product: MeteredProduct
  let day: string
  beforeAll(async () => {
    product = await startMeteredProduct('turn_calls', valkey)
    day = today()
    // Connections, keys, secrets and scripts are there from now on.
    await warmUp(product)
  })
  afterAll(() => product.close())

  test(
    'uses what its budget says, of all functions and services, be it the first, the next or made again',
    async () => {
      const startedAt = performance.now()
      const seen: MeteredTurn[] = []
      /** What time has added to each in every conversation so far. */
      let excuses = new Map<Turn, string[]>(TURNS.map((kind) => [kind, ['never seen']]))
      for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
        if (attempt > CONVERSATIONS && excuses.size === 0) break
        const conversation = await converse(product)
        if (today() !== day) {
          // Budgets and usage begin anew.
          day = today()
          await warmUp(product)
          continue
        }
        seen.push(...Object.values(conversation))
        const verdicts = TURNS.map((kind) => ({ kind, ...judgeTurn(phase, kind, conversation[kind]) }))
        expect([...new Set(verdicts.flatMap(({ problems }) => problems))]).toEqual([])
        const added = new Map(verdicts.map(({ kind, excused }) => [kind, excused]))
        excuses = new Map(
          [...excuses.keys()].flatMap((kind) => {
            const excused = added.get(kind) ?? []
            return excused.length > 0 ? [[kind, excused] as const] : []
          }),
        )
      }
      // What is in each of many attempts is nothing that time adds.
      expect([...excuses.values()].flat()).toEqual([])
      expect(judgeTime(phase, seen, performance.now() - startedAt)).toEqual([])
    },
    ATTEMPTS * CONVERSATION_MS,
  )
})

describe.each([1, 2] as const)('the judge of a turn in phase %i', (phase) => {
  const { used, stored, client } = budgets[phase]
  const asBudgeted = (kind: Turn): Uses => {
    const at = TURNS.indexOf(kind)
    const figure = (each: readonly number[]): number => each[at] ?? 0
    return {
      used: new Map(
        Object.entries(used).map(([key, { calls, bytes }]) => [
          key,
          { calls: figure(calls), bytes: figure(bytes) },
        ]),
      ),
      stored: new Map(
        Object.entries(stored).map(([table, { rows, bytes }]) => [
          table,
          { rows: figure(rows), bytes: figure(bytes) },
        ]),
      ),
      tokenBytes: figure(client.tokenBytes),
      otherBytes: figure(client.otherBytes),
      unmetered: [],
    }
  }
  const changed = (kind: Turn, change: (turn: Uses) => void) => {
    const turn = asBudgeted(kind)
    change(turn)
    return judgeTurn(phase, kind, turn)
  }

  test.each(TURNS)('refuses one call, byte of each token, row or address more: %s', (kind) => {
    const problems = (change: (turn: Uses) => void) => changed(kind, change).problems
    const use = (key: string, calls: number, bytes: number) =>
      problems((turn) => turn.used.set(key, { calls, bytes }))
    expect(problems(() => undefined)).toEqual([])
    expect(use('chat secretsmanager GetSecretValue', 1, 90)).toEqual([
      expect.stringMatching(
        /"chat secretsmanager GetSecretValue" once, .* 0 times .*docs\/performance\.md .*must say why/,
      ),
    ])
    expect(use('chat sqs SendMessageBatch', 3, 4_000)).toEqual([
      expect.stringContaining('"chat sqs SendMessageBatch" 3 times'),
    ])
    expect(use('chat sqs SendMessageBatch', 2, 6_000)).toEqual([
      expect.stringMatching(/bytes of "chat sqs SendMessageBatch" have grown .*must say why/),
    ])
    expect(problems((turn) => turn.unmetered.push('127.0.0.1:9'))).toEqual([
      expect.stringMatching(/connect to 127\.0\.0\.1:9, where no meter stands .*must say why/),
    ])
    expect(problems((turn) => (turn.tokenBytes += ANSWER.length))).toEqual([
      expect.stringMatching(/bytes to the client for tokens have grown from 499 to 509/),
    ])
    expect(problems((turn) => turn.stored.set('audit_log', { rows: 1, bytes: 200 }))).toEqual([
      expect.stringContaining('1 rows to audit_log'),
    ])
  })

  test.each(Object.entries(BY_THE_CLOCK[phase]))(
    'excuses nothing but what time adds, and no more of it: %s',
    (key, { everyMs, by }) => {
      const add = (turn: Uses) => turn.used.set(key, { calls: 1, bytes: 900 })
      expect(changed('next', add)).toEqual({
        problems: [],
        excused: [expect.stringContaining(`"${key}" once`)],
      })
      expect(
        changed('next', (turn) => add(turn) && turn.unmetered.push('127.0.0.1:9')).problems,
      ).toHaveLength(1)
      const turn = asBudgeted('next')
      add(turn)
      const turns = Array.from({ length: 2 * by }, () => turn)
      expect(judgeTime(phase, turns, everyMs)).toEqual([])
      expect(judgeTime(phase, turns, everyMs - 1)).toEqual([
        expect.stringMatching(new RegExp(`"${key}" ${2 * by} times, .*must say why`)),
      ])
    },
  )
})

describe('docs/performance.md', () => {
  test('says of each call of a turn why it is made, and of no other', () => {
    const document = readFileSync(DOCUMENT, 'utf8')
    for (const [phase, { used }] of Object.entries(budgets)) {
      const [, table = ''] =
        new RegExp(`### A turn in phase ${phase}\\n([\\s\\S]*?)\\n#`).exec(document) ?? []
      const rows = [...table.matchAll(/^\| `(.+?)` \| (\d+) \| (\d+) \| (\d+) \| .{10,} \|$/gm)].map(
        ([, key, ...calls]) => [key, calls.map(Number)],
      )
      expect(rows.sort()).toEqual(
        Object.entries(used)
          .map(([key, { calls }]) => [key, calls])
          .sort(),
      )
    }
  })
})
