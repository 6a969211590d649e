/** Compares turns with their budget (test/fixtures/turn-budget.ts), in words that say what to do about what differs. */
import { BY_THE_CLOCK, budgets, TOLERANCE, TURNS, type Turn } from '../fixtures/turn-budget.ts'
import type { MeteredTurn } from './metered-turn.ts'

/** Windows of rate limits: as many rows as minutes have passed. */
const WINDOWS = ['rate_limits']

export type Uses = Pick<MeteredTurn, 'used' | 'stored' | 'tokenBytes' | 'otherBytes' | 'unmetered'>

interface Verdict {
  /** What differs; empty: nothing. */
  problems: string[]
  /** What time can have added, and need not have. */
  excused: string[]
}

const near = (budgeted: number): number => Math.max(TOLERANCE.bytes, budgeted * TOLERANCE.share)

const times = (calls: number): string => (calls === 1 ? 'once' : `${calls} times`)

const WHY = 'where that is right, docs/performance.md ("Guards") must say why.'
const why = (phase: 1 | 2): string => `(test/fixtures/turn-budget.ts, phase ${phase}); ${WHY}`

const NAMES: Record<Turn, string> = {
  first: 'The first turn of a conversation',
  next: 'The next turn of a conversation',
  again: 'An answer that is made again',
}

export function judgeTurn(phase: 1 | 2, kind: Turn, turn: Uses): Verdict {
  const { used, stored, client } = budgets[phase]
  const at = TURNS.indexOf(kind)
  const problems: string[] = []
  const excused: string[] = []
  const compare = (what: string, measured: number, budgeted = 0, tolerance = near(budgeted)): void => {
    if (Math.abs(measured - budgeted) <= tolerance) return
    const verb = measured > budgeted ? 'grown' : 'shrunk'
    problems.push(`${NAMES[kind]}: ${what} have ${verb} from ${budgeted} to ${measured} ${why(phase)}`)
  }
  for (const key of new Set([...turn.used.keys(), ...Object.keys(used)])) {
    const { calls, bytes } = turn.used.get(key) ?? { calls: 0, bytes: 0 }
    const allowed = used[key]?.calls[at] ?? 0
    if (calls === allowed) compare(`bytes of "${key}"`, bytes, used[key]?.bytes[at])
    else
      (key in BY_THE_CLOCK[phase] ? excused : problems).push(
        `${NAMES[kind]} makes the call "${key}" ${times(calls)}, its budget has it ${times(allowed)} ${why(phase)}`,
      )
  }
  for (const address of turn.unmetered)
    problems.push(
      `The functions connect to ${address}, where no meter stands (test/harness/metered-turn.ts); ${WHY}`,
    )
  for (const table of new Set([...turn.stored.keys(), ...Object.keys(stored)])) {
    if (WINDOWS.includes(table)) continue
    const { rows, bytes } = turn.stored.get(table) ?? { rows: 0, bytes: 0 }
    const allowed = stored[table]?.rows[at] ?? 0
    if (rows === allowed) compare(`bytes added to ${table}`, bytes, stored[table]?.bytes[at])
    else
      problems.push(`${NAMES[kind]} adds ${rows} rows to ${table}, its budget has ${allowed} ${why(phase)}`)
  }
  // Of these, nothing but a duration differs in length.
  compare('bytes to the client for tokens', turn.tokenBytes, client.tokenBytes[at], 0)
  compare('bytes to the client besides tokens', turn.otherBytes, client.otherBytes[at], TOLERANCE.bytes)
  return { problems, excused }
}

/** Whether time can have added to these turns, which took so long together, what it has added. */
export function judgeTime(phase: 1 | 2, turns: readonly Pick<Uses, 'used'>[], elapsedMs: number): string[] {
  return Object.entries(BY_THE_CLOCK[phase]).flatMap(([key, { everyMs, by }]) => {
    const most = by * (1 + Math.floor(elapsedMs / everyMs))
    const calls = turns.reduce((sum, { used }) => sum + (used.get(key)?.calls ?? 0), 0)
    return calls > most
      ? [
          `${turns.length} turns make the call "${key}" ${times(calls)}, and in ${Math.round(elapsedMs)} ms time adds ${most} at most ${why(phase)}`,
        ]
      : []
  })
}
