/** Compares a turn with its budget (test/fixtures/turn-budget.ts). */
import { type Budget, TOLERANCE } from '../fixtures/turn-budget.ts'
import type { MeteredTurn } from './metered-turn.ts'

/** Windows of rate limits: as many rows as minutes have passed. */
const BY_THE_CLOCK = ['rate_limits']

const near = (budgeted: number): number => Math.max(TOLERANCE.bytes, budgeted * TOLERANCE.share)

const times = (calls: number): string => (calls === 1 ? 'once' : `${calls} times`)

/** What differs, in words that say what to do about it; empty: nothing. */
export function judgeTurn(phase: 1 | 2, turn: MeteredTurn, budget: Budget): string[] {
  const where = `test/fixtures/turn-budget.ts, phase ${phase}`
  const why = 'where that is right, docs/performance.md ("Guards") must say why'
  const problems: string[] = []
  const compare = (what: string, measured: number, budgeted: number, tolerance = near(budgeted)): void => {
    if (Math.abs(measured - budgeted) <= tolerance) return
    const verb = measured > budgeted ? 'grown' : 'shrunk'
    problems.push(`${what} have ${verb} from ${budgeted} to ${measured} (${where}); ${why}.`)
  }
  for (const key of new Set([...turn.used.keys(), ...Object.keys(budget.used)])) {
    const { calls, bytes } = turn.used.get(key) ?? { calls: 0, bytes: 0 }
    const allowed = budget.used[key] ?? { calls: 0, bytes: 0 }
    if (calls < allowed.calls || calls > allowed.calls + (allowed.sometimes ?? 0))
      problems.push(
        `A turn makes the call "${key}" ${times(calls)}, its budget has it ${times(allowed.calls)} (${where}); ${why}.`,
      )
    else if (calls === allowed.calls) compare(`Bytes of "${key}"`, bytes, allowed.bytes)
  }
  for (const table of new Set([...turn.stored.keys(), ...Object.keys(budget.stored)])) {
    if (BY_THE_CLOCK.includes(table)) continue
    const { rows, bytes } = turn.stored.get(table) ?? { rows: 0, bytes: 0 }
    const allowed = budget.stored[table] ?? { rows: 0, bytes: 0 }
    if (rows !== allowed.rows)
      problems.push(
        `A turn adds ${rows} rows to ${table}, its budget has ${allowed.rows} (${where}); ${why}.`,
      )
    else compare(`Bytes that a turn adds to ${table}`, bytes, allowed.bytes)
  }
  // Of these, nothing but a duration differs in length.
  compare('Bytes to the client for tokens', turn.tokenBytes, budget.client.tokenBytes, 0)
  compare('Bytes to the client besides tokens', turn.otherBytes, budget.client.otherBytes, TOLERANCE.bytes)
  compare('Bytes to the model', turn.promptBytes, budget.model.promptBytes)
  return problems
}
