/** What a subject's process allocates on its heap for 1,000 tokens, whatever the collector takes back. */
import { median, medianRatio, rounded } from '../figures.ts'
import { longAnswers, spenders } from './processor-time.ts'
import { interleave } from './rounds.ts'
import type { Stack, SubjectName } from './stack.ts'

const MIB = 2 ** 20

export interface Allocations {
  subject: SubjectName
  /** In answers of 1,000 tokens, everything of the turn included. Buffers beside the heap are not in it. */
  mibPer1000Tokens: number
  timesRelay: number
}

export async function measureAllocations(stack: Stack, rounds: number): Promise<Allocations[]> {
  const cases = spenders(stack).map((subject) => ({ subject, bytes: [] as number[] }))
  await interleave(cases, rounds, async ({ subject, bytes }) => {
    const allocated = await subject.process?.allocations()
    const turns = await longAnswers(subject, stack)
    bytes.push(((await allocated?.()) ?? Number.NaN) / turns.length) // as many tokens as that
  })
  const relay = cases.find(({ subject }) => subject.name === 'relay')?.bytes ?? []
  return cases.map(({ subject, bytes }) => ({
    subject: subject.name,
    mibPer1000Tokens: rounded(median(bytes) / MIB),
    timesRelay: medianRatio(bytes, relay),
  }))
}
