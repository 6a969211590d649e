/** How long the first token and the whole answer take, and what the subject's process spends meanwhile. */

import { cpus } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { median, medianRatio, percentile, rounded } from '../figures.ts'
import { threadMs } from '../processor.ts'
import type { Conversation, Turn } from './clients.ts'
import type { Wanted } from './question.ts'
import { interleave } from './rounds.ts'
import type { Stack, Subject, SubjectName } from './stack.ts'

export interface Load {
  clients: number
  /** Each asks again as soon as it has its answer: `spread` over an answer's time, or all `together`. */
  start: 'spread' | 'together'
  /** Of each client. */
  turns: number
  wanted: Wanted
}

interface Times {
  p50Ms: number
  p99Ms: number
  /** Over `direct`: of each round its p50 against that of the same round, the median of these, and their range. */
  addedMs: number
  addedLeastMs: number
  addedMostMs: number
  /** The same p50s, one against the other. */
  timesDirect: number
}

export interface Latency {
  subject: SubjectName
  clients: number
  start: Load['start']
  /** The model's own, before its first token. */
  modelFirstMs: number
  answers: number
  firstToken: Times
  whole: Times
  /** Paced as a model is: of its own process, and of the services that it stands on; null where it has none. */
  processorMsPer1000Tokens: number | null
  /** Its own processor time, against the relay's of the same round. */
  processorTimesRelay: number | null
  servicesMsPer1000Tokens: number | null
  /** Of the machine's processors, whoever used them: above nine tenths the times are of a queue before them. */
  busyPercent: number
}

interface Seen {
  turns: Turn[]
  processorMs: number | null
  servicesMs: number | null
  busyPercent: number
}

/** Every client's answers to its turns. */
export async function underLoad(
  { ask }: Pick<Subject, 'ask'>,
  conversations: readonly Conversation[],
  { clients, start, turns, wanted }: Load,
): Promise<Turn[]> {
  const answerMs = wanted.tokens * wanted.tokenMs
  const client = async (conversation: Conversation, index: number): Promise<Turn[]> => {
    if (start === 'spread') await sleep((index / clients) * answerMs)
    const answers: Turn[] = []
    for (let turn = 0; turn < turns; turn += 1) answers.push(await ask(conversation, wanted))
    return answers
  }
  return (await Promise.all(conversations.slice(0, clients).map(client))).flat()
}

export async function measureLatency(
  stack: Stack,
  loads: readonly Load[],
  rounds: number,
): Promise<Latency[]> {
  const { subjects, conversations } = stack
  const cases = loads.flatMap((load) => subjects.map((subject) => ({ load, subject, seen: [] as Seen[] })))
  const measure = async ({ load, subject, seen }: (typeof cases)[number]) => {
    const look = () => ({
      own: subject.process ? threadMs(subject.process.pid) : null,
      services: subject.servicesMs?.() ?? null,
      machine: machineMs(),
    })
    const before = look()
    const turns = await underLoad(subject, conversations, load)
    const after = look()
    const between = (from: number | null, to: number | null) =>
      from === null || to === null ? null : to - from
    seen.push({
      turns,
      processorMs: between(before.own, after.own),
      servicesMs: between(before.services, after.services),
      busyPercent:
        100 * (1 - (after.machine.idle - before.machine.idle) / (after.machine.all - before.machine.all)),
    })
  }
  // Who is compared comes soon after the other: one load after the next, each with all of its rounds.
  for (const load of loads)
    await interleave(
      cases.filter((one) => one.load === load),
      rounds,
      measure,
    )
  return cases.map(({ load, subject, seen }) => {
    const of = (name: SubjectName): Seen[] =>
      cases.find((one) => one.load === load && one.subject.name === name)?.seen ?? []
    const direct = of('direct')
    const processor = perThousand(seen, ({ processorMs }) => processorMs)
    const relays = perThousand(of('relay'), ({ processorMs }) => processorMs)
    const times = (pick: (turn: Turn) => number): Times => timesOf(seen, direct, pick)
    return {
      subject: subject.name,
      clients: load.clients,
      start: load.start,
      modelFirstMs: load.wanted.firstMs ?? load.wanted.tokenMs,
      answers: seen.reduce((sum, { turns }) => sum + turns.length, 0),
      firstToken: times(({ firstMs }) => firstMs),
      whole: times(({ wholeMs }) => wholeMs),
      processorMsPer1000Tokens: medianOrNull(processor),
      processorTimesRelay: processor.length > 0 ? medianRatio(processor, relays) : null,
      servicesMsPer1000Tokens: medianOrNull(perThousand(seen, ({ servicesMs }) => servicesMs)),
      busyPercent: Math.round(median(seen.map(({ busyPercent }) => busyPercent))),
    }
  })
}

function timesOf(own: readonly Seen[], direct: readonly Seen[], pick: (turn: Turn) => number): Times {
  const all = own.flatMap(({ turns }) => turns.map(pick))
  const mediansOf = (seen: readonly Seen[]): number[] => seen.map(({ turns }) => median(turns.map(pick)))
  const [medians, baseline] = [mediansOf(own), mediansOf(direct)]
  const added = medians.map((ms, round) => ms - (baseline[round] ?? Number.NaN))
  return {
    p50Ms: rounded(percentile(all, 0.5)),
    p99Ms: rounded(percentile(all, 0.99)),
    addedMs: rounded(median(added)),
    addedLeastMs: rounded(Math.min(...added)),
    addedMostMs: rounded(Math.max(...added)),
    timesDirect: medianRatio(medians, baseline),
  }
}

/** Of each round; of none where it cannot be seen. */
function perThousand(seen: readonly Seen[], pick: (seen: Seen) => number | null): number[] {
  return seen.flatMap((one) => {
    const ms = pick(one)
    const tokens = one.turns.reduce((sum, turn) => sum + turn.tokens, 0)
    return ms === null ? [] : [(ms / tokens) * 1_000]
  })
}

const medianOrNull = (values: readonly number[]): number | null =>
  values.length === 0 ? null : rounded(median(values))

/** Of all processors since the machine's start. */
function machineMs(): { all: number; idle: number } {
  const times = cpus().map((one) => one.times)
  return {
    all: times.reduce((sum, { user, nice, sys, idle, irq }) => sum + user + nice + sys + idle + irq, 0),
    idle: times.reduce((sum, { idle }) => sum + idle, 0),
  }
}
