/** What an open stream holds in memory: a hundred of them, and none, in the same process. */
import { setTimeout as sleep } from 'node:timers/promises'
import { median, medianRatio, rounded } from '../figures.ts'
import { interleave, subjectsOf } from './rounds.ts'
import type { Stack, SubjectName } from './stack.ts'

const STREAMS = 100
const WANTED = { tokens: 30, tokenMs: 100 }
/** From one to the next: how they wait for each other at the start is not what is measured. */
const APART_MS = 10
const KIB = 1_024

export interface OpenStreams {
  subject: SubjectName
  /** With none open, after as many as that have come and gone. */
  residentMib: number
  usedMib: number
  /** Of each of 100. */
  residentKibPerStream: number
  usedKibPerStream: number
  /** Of what is used: what the system has given a process comes in steps larger than a relay's streams. */
  usedTimesRelay: number
}

export async function measureOpenStreams(stack: Stack, rounds: number): Promise<OpenStreams[]> {
  const cases = subjectsOf(stack, 'pipe', 'relay', 'core').map((subject) => ({
    subject,
    seen: [] as { resident: number; used: number; residentMore: number; usedMore: number }[],
  }))
  // One round more, which does not count: with so many streams the young generation of the heap grows, once, by 60 MB.
  await interleave(cases, rounds + 1, async ({ subject, seen }, round) => {
    if (!subject.process) return
    const none = await subject.process.memory()
    const streams = stack.conversations.slice(0, STREAMS).map((conversation, index) => {
      const spoken = Promise.withResolvers<void>()
      const answer = sleep(index * APART_MS).then(() =>
        subject.ask(conversation, WANTED, { spoken: spoken.resolve }),
      )
      answer.catch(spoken.reject)
      return { spoken: spoken.promise, answer }
    })
    await Promise.all(streams.map(({ spoken }) => spoken))
    const open = await subject.process.memory()
    await Promise.all(streams.map(({ answer }) => answer))
    if (round === 0) return
    seen.push({
      resident: none.residentBytes,
      used: none.usedBytes,
      residentMore: (open.residentBytes - none.residentBytes) / STREAMS,
      usedMore: (open.usedBytes - none.usedBytes) / STREAMS,
    })
  })
  const relay = cases.find(({ subject }) => subject.name === 'relay')?.seen ?? []
  return cases.map(({ subject, seen }) => ({
    subject: subject.name,
    residentMib: rounded(median(seen.map(({ resident }) => resident / KIB / KIB))),
    usedMib: rounded(median(seen.map(({ used }) => used / KIB / KIB))),
    residentKibPerStream: rounded(median(seen.map(({ residentMore }) => residentMore / KIB))),
    usedKibPerStream: rounded(median(seen.map(({ usedMore }) => usedMore / KIB))),
    usedTimesRelay: medianRatio(
      seen.map(({ usedMore }) => usedMore),
      relay.map(({ usedMore }) => usedMore),
    ),
  }))
}
