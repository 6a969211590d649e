/**
 * Reading an answer again: how soon it begins, and what many readers of one answer take. Beside it the relay, of which the
 * same must be asked again: its model says all of it at once where the answer has been said already.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { median, medianRatio, percentile, rounded } from '../figures.ts'
import { threadMs } from '../processor.ts'
import type { Conversation } from './clients.ts'
import { interleave, subjectsOf } from './rounds.ts'
import type { Stack, Subject, SubjectName } from './stack.ts'

const WANTED = { tokens: 50, tokenMs: 20 }
const SAID = { ...WANTED, tokenMs: 0 }
/** Readings of each answer while it runs, one after the other, and of the same one afterwards. */
const READINGS = 8
const PAUSE_MS = 50
export const READERS = [1, 10, 50] as const

export interface Resume {
  subject: SubjectName
  answer: 'running' | 'ended' | 'asked again'
  readings: number
  /** Until the first event. */
  p50Ms: number
  p99Ms: number
  /** Against the relay's first token of the same answer, asked again. */
  timesRelay: number
}

export interface Readers {
  subject: SubjectName
  readers: number
  /** From the end of the answer until the last reader had it whole. */
  behindMs: number
  /** What each took of the subject's processor, against what the answer itself took, and one of as many of the relay. */
  processorMsEach: number | null
  timesAnswer: number | null
  timesRelay: number | null
  /** Of an answer that has ended: until all who asked together had it whole, and what each took. */
  endedWholeMs: number
  endedProcessorMsEach: number | null
  /** Time, and processor time, against as many answers of the relay that are asked for together and said at once. */
  endedTimesRelay: number
  endedProcessorTimesRelay: number | null
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
  const cases = subjectsOf(stack, 'relay', 'core', 'cloud').map((subject) => ({
    subject,
    running: [] as number[],
    ended: [] as number[],
    again: [] as number[],
  }))
  await interleave(cases, rounds, async ({ subject, running, ended, again }) => {
    if (!subject.read) {
      for (let reading = 0; reading < READINGS; reading += 1) {
        await sleep(PAUSE_MS)
        again.push((await subject.ask(conversation, SAID)).firstMs)
      }
      return
    }
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
  const relay = cases.find(({ subject }) => subject.name === 'relay')?.again ?? []
  return cases.flatMap(({ subject, running, ended, again }) =>
    Object.entries({ running, ended, 'asked again': again })
      .filter(([, times]) => times.length > 0)
      .map(([answer, times]) => ({
        subject: subject.name,
        answer: answer as Resume['answer'],
        readings: times.length,
        p50Ms: rounded(percentile(times, 0.5)),
        p99Ms: rounded(percentile(times, 0.99)),
        timesRelay: medianRatio(times, relay),
      })),
  )
}

interface Watched {
  behindMs: number
  processorMs: number
  endedWholeMs: number
  endedProcessorMs: number
}

const spentBy = (subject: Subject) => (): number => threadMs(subject.process?.pid ?? 0) ?? Number.NaN

/** As many answers of their own, which is what they would have without a log to read. */
async function askRelay(relay: Subject, conversation: Conversation, clients: number): Promise<Watched> {
  const spent = spentBy(relay)
  // A conversation of each: an answer becomes part of the one that it was asked in.
  const askAll = (wanted: typeof WANTED) =>
    Promise.all(Array.from({ length: clients }, () => relay.ask({ ...conversation }, wanted)))
  const before = spent()
  await askAll(WANTED)
  const processorMs = spent() - before
  const askedAt = performance.now()
  const spentBefore = spent()
  await askAll(SAID)
  return {
    behindMs: 0,
    processorMs,
    endedWholeMs: performance.now() - askedAt,
    endedProcessorMs: spent() - spentBefore,
  }
}

async function watch(subject: Subject, conversation: Conversation, readers: number): Promise<Watched> {
  const read = readable(subject)
  const spent = spentBy(subject)
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
  const cases = subjectsOf(stack, 'relay', 'core').flatMap((subject) =>
    (subject.read ? [0, ...READERS] : READERS).map((readers) => ({
      subject,
      readers,
      seen: [] as Watched[],
    })),
  )
  await interleave(cases, rounds, async ({ subject, readers, seen }) => {
    seen.push(await (subject.read ? watch : askRelay)(subject, conversation, readers))
  })
  const orNull = (value: number) => (Number.isNaN(value) ? null : rounded(value))
  return cases
    .filter(({ subject, readers }) => subject.read && readers > 0)
    .map(({ subject, readers, seen }) => {
      const alone = cases.find((one) => one.subject === subject && one.readers === 0)?.seen ?? []
      const each = seen.map((one, index) => (one.processorMs - (alone[index]?.processorMs ?? 0)) / readers)
      const relay = cases.find((one) => one.subject.name === 'relay' && one.readers === readers)?.seen ?? []
      const timesRelay = (pick: (one: Watched) => number) => medianRatio(seen.map(pick), relay.map(pick))
      return {
        subject: subject.name,
        readers,
        behindMs: rounded(median(seen.map(({ behindMs }) => behindMs))),
        processorMsEach: orNull(median(each)),
        timesAnswer: orNull(
          medianRatio(
            each,
            alone.map(({ processorMs }) => processorMs),
          ),
        ),
        timesRelay: orNull(
          medianRatio(
            each,
            relay.map(({ processorMs }) => processorMs / readers),
          ),
        ),
        endedWholeMs: rounded(median(seen.map(({ endedWholeMs }) => endedWholeMs))),
        endedProcessorMsEach: orNull(median(seen.map(({ endedProcessorMs }) => endedProcessorMs / readers))),
        endedTimesRelay: timesRelay(({ endedWholeMs }) => endedWholeMs),
        endedProcessorTimesRelay: orNull(timesRelay(({ endedProcessorMs }) => endedProcessorMs)),
      }
    })
}
