/** How long the first token and the whole answer take, and what the subject's process spends meanwhile. */

import { cpus } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { threadMs } from '../processor.ts'
import type { Conversation, Turn } from './clients.ts'
import type { Wanted } from './question.ts'
import { interleave } from './rounds.ts'
import type { Stack, Subject, SubjectName } from './stack.ts'
import { median, percentile, round } from './statistics.ts'

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
  await interleave(cases, rounds, async ({ load, subject, seen }) => {
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
  })
  return cases.map(({ load, subject, seen }) => {
    const direct = cases.find((one) => one.load === load && one.subject.name === 'direct')?.seen ?? []
    const times = (pick: (turn: Turn) => number): Times => timesOf(seen, direct, pick)
    return {
      subject: subject.name,
      clients: load.clients,
      start: load.start,
      modelFirstMs: load.wanted.firstMs ?? load.wanted.tokenMs,
      answers: seen.reduce((sum, { turns }) => sum + turns.length, 0),
      firstToken: times(({ firstMs }) => firstMs),
      whole: times(({ wholeMs }) => wholeMs),
      processorMsPer1000Tokens: perThousand(seen, ({ processorMs }) => processorMs),
      servicesMsPer1000Tokens: perThousand(seen, ({ servicesMs }) => servicesMs),
      busyPercent: Math.round(median(seen.map(({ busyPercent }) => busyPercent))),
    }
  })
}

function timesOf(own: readonly Seen[], direct: readonly Seen[], pick: (turn: Turn) => number): Times {
  const all = own.flatMap(({ turns }) => turns.map(pick))
  const added = own.map(
    ({ turns }, index) => median(turns.map(pick)) - median((direct[index]?.turns ?? []).map(pick)),
  )
  return {
    p50Ms: percentile(all, 0.5),
    p99Ms: percentile(all, 0.99),
    addedMs: median(added),
    addedLeastMs: round(Math.min(...added)),
    addedMostMs: round(Math.max(...added)),
  }
}

function perThousand(seen: readonly Seen[], pick: (seen: Seen) => number | null): number | null {
  const each = seen.flatMap((one) => {
    const ms = pick(one)
    const tokens = one.turns.reduce((sum, turn) => sum + turn.tokens, 0)
    return ms === null ? [] : [(ms / tokens) * 1_000]
  })
  return each.length === 0 ? null : median(each)
}

/** Of all processors since the machine's start. */
function machineMs(): { all: number; idle: number } {
  const times = cpus().map((one) => one.times)
  return {
    all: times.reduce((sum, { user, nice, sys, idle, irq }) => sum + user + nice + sys + idle + irq, 0),
    idle: times.reduce((sum, { idle }) => sum + idle, 0),
  }
}
