/** Reading an answer again: how soon it begins, and what many readers of one answer take. */
import { setTimeout as sleep } from 'node:timers/promises'
import { threadMs } from '../processor.ts'
import type { Conversation } from './clients.ts'
import { interleave, subjectsOf } from './rounds.ts'
import type { Stack, Subject, SubjectName } from './stack.ts'
import { median, percentile } from './statistics.ts'

const WANTED = { tokens: 50, tokenMs: 20 }
/** Readings of each answer while it runs, one after the other, and of the same one afterwards. */
const READINGS = 8
const PAUSE_MS = 50
export const READERS = [1, 10, 50] as const

export interface Resume {
  subject: SubjectName
  answer: 'running' | 'ended'
  readings: number
  /** Until the first event. */
  p50Ms: number
  p99Ms: number
}

export interface Readers {
  subject: SubjectName
  readers: number
  /** From the end of the answer until the last reader had it whole. */
  behindMs: number
  /** What each took of the subject's processor, against what the answer itself took. */
  processorMsEach: number | null
  timesAnswer: number | null
  /** Of an answer that has ended: until all who asked together had it whole, and what each took. */
  endedWholeMs: number
  endedProcessorMsEach: number | null
}

const talker = ({ conversations }: Stack): Conversation => {
  const [first] = conversations
  if (!first) throw new Error('nobody asks')
  return first
}

const readable = (subject: Subject) => {
  if (!subject.read) throw new Error(`${subject.name} cannot be read again`)
  return subject.read
}

/** Starts an answer; resolves as soon as it can be read. */
async function begin({ ask }: Subject, conversation: Conversation) {
  const begun = Promise.withResolvers<string>()
  const answer = ask(conversation, WANTED, { begun: begun.resolve })
  answer.catch(begun.reject)
  return { messageId: await begun.promise, answer }
}

export async function measureResume(stack: Stack, rounds: number): Promise<Resume[]> {
  const conversation = talker(stack)
  const cases = subjectsOf(stack, 'core', 'cloud').map((subject) => ({
    subject,
    running: [] as number[],
    ended: [] as number[],
  }))
  await interleave(cases, rounds, async ({ subject, running, ended }) => {
    const read = readable(subject)
    const { messageId, answer } = await begin(subject, conversation)
    for (let reading = 0; reading < READINGS; reading += 1) {
      await sleep(PAUSE_MS)
      running.push((await read(conversation, messageId, 'first')).firstMs)
    }
    await answer
    for (let reading = 0; reading < READINGS; reading += 1) {
      await sleep(PAUSE_MS)
      ended.push((await read(conversation, messageId)).firstMs)
    }
  })
  return cases.flatMap(({ subject, running, ended }) =>
    (['running', 'ended'] as const).map((answer) => {
      const times = answer === 'running' ? running : ended
      return {
        subject: subject.name,
        answer,
        readings: times.length,
        p50Ms: percentile(times, 0.5),
        p99Ms: percentile(times, 0.99),
      }
    }),
  )
}

interface Watched {
  behindMs: number
  processorMs: number
  endedWholeMs: number
  endedProcessorMs: number
}

async function watch(subject: Subject, conversation: Conversation, readers: number): Promise<Watched> {
  const read = readable(subject)
  const spent = () => threadMs(subject.process?.pid ?? 0) ?? Number.NaN
  const before = spent()
  const { messageId, answer } = await begin(subject, conversation)
  const readAll = () => Promise.all(Array.from({ length: readers }, () => read(conversation, messageId)))
  const [endedAt, allAt] = await Promise.all([
    answer.then(() => performance.now()),
    readAll().then(() => performance.now()),
  ])
  const processorMs = spent() - before
  const askedAt = performance.now()
  const spentBefore = spent()
  await readAll()
  return {
    behindMs: Math.max(0, allAt - endedAt),
    processorMs,
    endedWholeMs: performance.now() - askedAt,
    endedProcessorMs: spent() - spentBefore,
  }
}

export async function measureReaders(stack: Stack, rounds: number): Promise<Readers[]> {
  const conversation = talker(stack)
  const cases = subjectsOf(stack, 'core').flatMap((subject) =>
    [0, ...READERS].map((readers) => ({ subject, readers, seen: [] as Watched[] })),
  )
  await interleave(cases, rounds, async ({ subject, readers, seen }) => {
    seen.push(await watch(subject, conversation, readers))
  })
  const number = (value: number) => (Number.isNaN(value) ? null : value)
  return cases
    .filter(({ readers }) => readers > 0)
    .map(({ subject, readers, seen }) => {
      const alone = cases.find((one) => one.subject === subject && one.readers === 0)?.seen ?? []
      const each = seen.map((one, index) => (one.processorMs - (alone[index]?.processorMs ?? 0)) / readers)
      return {
        subject: subject.name,
        readers,
        behindMs: median(seen.map(({ behindMs }) => behindMs)),
        processorMsEach: number(median(each)),
        timesAnswer: number(median(each.map((ms, index) => ms / (alone[index]?.processorMs ?? 0)))),
        endedWholeMs: median(seen.map(({ endedWholeMs }) => endedWholeMs)),
        endedProcessorMsEach: number(median(seen.map(({ endedProcessorMs }) => endedProcessorMs / readers))),
      }
    })
}
