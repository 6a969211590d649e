/** What a subject's process spends on tokens that come as fast as they can be made, and on a turn beside them. */
import { median, medianRatio, rounded } from '../figures.ts'
import { threadMs } from '../processor.ts'
import { type Load, underLoad } from './latency.ts'
import { interleave, subjectsOf } from './rounds.ts'
import type { Stack, Subject, SubjectName } from './stack.ts'

const CLIENTS = 10
/** Two lengths tell what goes with the tokens from what goes with the turn. */
const LONG: Load = { clients: CLIENTS, start: 'together', turns: 2, wanted: { tokens: 1_000, tokenMs: 0 } }
const SHORT: Load = { clients: CLIENTS, start: 'together', turns: 10, wanted: { tokens: 10, tokenMs: 0 } }

export interface Spending {
  subject: SubjectName
  /** In answers of 1,000 tokens, everything of the turn included. */
  msPer1000Tokens: number
  /** Against the relay's of the same round. */
  timesRelay: number
  /** What 1,000 tokens more would take, and a turn without any. */
  msPer1000More: number
  msPerTurn: number
}

export const spenders = (stack: Stack): Subject[] => subjectsOf(stack, 'pipe', 'relay', 'core')

export const longAnswers = (subject: Subject, { conversations }: Stack) =>
  underLoad(subject, conversations, LONG)
export const shortAnswers = (subject: Subject, { conversations }: Stack) =>
  underLoad(subject, conversations, SHORT)

/** Undefined where processor time cannot be seen. */
export async function measureProcessor(stack: Stack, rounds: number): Promise<Spending[] | undefined> {
  const { conversations } = stack
  const spentOn = async (subject: Subject, load: Load): Promise<number> => {
    const pid = subject.process?.pid ?? 0
    const before = threadMs(pid)
    const turns = await underLoad(subject, conversations, load)
    return ((threadMs(pid) ?? Number.NaN) - (before ?? Number.NaN)) / turns.length
  }
  const cases = spenders(stack).map((subject) => ({ subject, long: [] as number[], short: [] as number[] }))
  await interleave(cases, rounds, async ({ subject, long, short }) => {
    long.push(await spentOn(subject, LONG))
    short.push(await spentOn(subject, SHORT))
  })
  const relay = cases.find(({ subject }) => subject.name === 'relay')?.long ?? []
  if (relay.some(Number.isNaN)) return undefined
  return cases.map(({ subject, long, short }) => {
    const more = long.map(
      (ms, index) => (ms - (short[index] ?? 0)) / (LONG.wanted.tokens - SHORT.wanted.tokens),
    )
    return {
      subject: subject.name,
      msPer1000Tokens: rounded(median(long)), // as many tokens as that
      timesRelay: medianRatio(long, relay),
      msPer1000More: rounded(median(more.map((ms) => ms * 1_000))),
      msPerTurn: rounded(median(short.map((ms, index) => ms - (more[index] ?? 0) * SHORT.wanted.tokens))),
    }
  })
}
