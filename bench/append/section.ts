/** Appending: what one more turn costs in conversations of different lengths, and what it takes on disk. */
import type pg from 'pg'
import { amount, table } from '../../lib/cost/table.ts'
import { startTestDatabase } from '../../test/harness/database.ts'
import { connect, connectAsFunction } from '../connect.ts'
import { medianRatio, rounded, shuffled, verdict } from '../figures.ts'
import { ANSWER_CHARACTERS, COMPANY, QUESTION_CHARACTERS, type Thread } from '../turns.ts'
import { measureStored, type Stored } from './stored.ts'
import { makeThreads } from './threads.ts'
import { appendTurn, type Cost, counting, insertTurn, medianCost, type Run, timing } from './turn.ts'

/** What is done in a conversation; the last stands for what it would cost without us. */
const BASELINE = 'bare insert'
const SUBJECTS = ['open', 'open, turns of today', 'save', 'save, turns of today', BASELINE] as const
export type AppendSubject = (typeof SUBJECTS)[number]

export interface AppendFigure extends Cost {
  /** That the conversation has before. */
  messages: number
  subject: AppendSubject
  /** Against the bare insert into a conversation of this length; time by rounds. */
  timesInsert: Cost
}

export interface AppendFigures {
  samples: number
  appends: AppendFigure[]
  /** Of each subject, the dearest length against the cheapest. */
  spread: Record<AppendSubject, Cost>
  stored: Stored[]
}

const LENGTHS = [10, 100, 1_000, 10_000]
/** Of each length and kind. Each is appended to equally often, and grows by 20 messages meanwhile. */
const THREADS = 8
const ROUNDS = 80
/** Of them some run under EXPLAIN, which is not timed. */
const COUNTED_ROUNDS = 20
const WARM_UP_ROUNDS = 4
const MOST_SPREAD = 1.1
const MOST_STORED = 1.5

export async function measureAppend(): Promise<AppendFigures> {
  const database = await startTestDatabase('real', 'bench_append')
  const [client, owner] = [
    await connectAsFunction(database.url, COMPANY),
    await connect(database.url, COMPANY),
  ]
  try {
    const stored = await measureStored(client, owner)
    const appends = await measureLengths(client, owner)
    return {
      samples: ROUNDS - COUNTED_ROUNDS - WARM_UP_ROUNDS,
      appends,
      spread: Object.fromEntries(
        SUBJECTS.map((subject) => [subject, spreadOf(appends.filter((one) => one.subject === subject))]),
      ) as AppendFigures['spread'],
      stored,
    }
  } finally {
    await Promise.all([client.end(), owner.end()])
    await database.close()
  }
}

async function measureLengths(client: pg.Client, owner: pg.Client): Promise<AppendFigure[]> {
  const lengths = LENGTHS.flatMap((messages) => Array<number>(THREADS).fill(messages))
  const older = await makeThreads(owner, lengths, false)
  const today = await makeThreads(owner, lengths, true)
  const bare = await makeThreads(owner, LENGTHS, false)
  await owner.query('vacuum analyze public.chat_messages, public.chat_sessions, public.chat_turns')
  const costs = new Map<string, Cost[]>()
  const add = (subject: AppendSubject, messages: number, cost: Cost): void => {
    const key = `${subject} ${messages}`
    costs.set(key, [...(costs.get(key) ?? []), cost])
  }
  const places = LENGTHS.map((messages, place) => ({ messages, place }))
  for (let round = 0; round < ROUNDS; round += 1) {
    const run: Run = round < COUNTED_ROUNDS ? counting(client) : timing(client)
    const isWarmUp = round >= COUNTED_ROUNDS && round < COUNTED_ROUNDS + WARM_UP_ROUNDS
    for (const { messages, place } of shuffled(places)) {
      const at = place * THREADS + (round % THREADS)
      const seen: [AppendSubject, Cost][] = []
      const ways = [
        async () => {
          const { opening, saving } = await appendTurn(client, run, older[at] as Thread)
          seen.push(['open', opening], ['save', saving])
        },
        async () => {
          const { opening, saving } = await appendTurn(client, run, today[at] as Thread)
          seen.push(['open, turns of today', opening], ['save, turns of today', saving])
        },
        async () => {
          seen.push([BASELINE, await insertTurn(run, bare[place] as Thread)])
        },
      ]
      for (const way of shuffled(ways)) await way()
      if (!isWarmUp) for (const [subject, cost] of seen) add(subject, messages, cost)
    }
  }
  return SUBJECTS.flatMap((subject) =>
    LENGTHS.map((messages) => {
      const seen = costs.get(`${subject} ${messages}`) ?? []
      const { ms, walBytes, blocks } = medianCost(seen)
      const timesInsert = againstInsert(seen, costs.get(`${BASELINE} ${messages}`) ?? [])
      return { subject, messages, ms: rounded(ms), walBytes, blocks, timesInsert }
    }),
  )
}

/** What is counted is in other rounds than what is timed. */
function againstInsert(own: readonly Cost[], insert: readonly Cost[]): Cost {
  const timed = (costs: readonly Cost[]) => costs.map(({ ms }) => ms).filter((ms) => !Number.isNaN(ms))
  const [counted, ofInsert] = [medianCost(own), medianCost(insert)]
  return {
    ms: medianRatio(timed(own), timed(insert)),
    walBytes: rounded(counted.walBytes / ofInsert.walBytes),
    blocks: rounded(counted.blocks / ofInsert.blocks),
  }
}

function spreadOf(figures: readonly Cost[]): Cost {
  const of = (name: keyof Cost): number => {
    const values = figures.map((figure) => figure[name])
    return rounded(Math.max(...values) / Math.min(...values))
  }
  return { ms: of('ms'), walBytes: of('walBytes'), blocks: of('blocks') }
}

export function printAppend({ samples, appends, spread, stored }: AppendFigures): void {
  console.log(
    `A turn: ${QUESTION_CHARACTERS} and ${ANSWER_CHARACTERS} characters. p50 of ${samples}, one connection; what is counted is without the commit.`,
  )
  console.log(
    table(
      appends.map(({ subject, messages, ms, walBytes, blocks, timesInsert }) => ({
        what: subject,
        'in a conversation of': amount(messages),
        'p50 ms': ms.toFixed(2),
        'times insert': timesInsert.ms.toFixed(2),
        'WAL bytes': amount(walBytes),
        'times insert ': timesInsert.walBytes.toFixed(2),
        'blocks touched': amount(blocks),
        ' times insert': timesInsert.blocks.toFixed(2),
      })),
    ),
  )
  console.log()
  for (const subject of SUBJECTS) {
    const { ms, walBytes, blocks } = spread[subject]
    const isFlat = Math.max(ms, walBytes, blocks) <= MOST_SPREAD
    const aim = subject === BASELINE ? '' : `; aim ${MOST_SPREAD}: ${verdict(isFlat)}`
    console.log(
      `${subject}: dearest against cheapest ${ms} in time, ${walBytes} in WAL, ${blocks} in blocks${aim}`,
    )
  }
  console.log(
    '\nOn disk, a turn in a thread of 500. Letters at random do not compress; of sessions, what updates leave until a vacuum:',
  )
  console.log(
    table(
      stored.map((one) => ({
        text: one.alphabet,
        characters: amount(one.characters),
        'UTF-8 bytes': amount(one.textBytes),
        heap: amount(one.heapBytes),
        indexes: amount(one.indexBytes),
        toast: amount(one.toastBytes),
        sessions: amount(one.sessionBytes),
        'against its bytes': one.ratio.toFixed(2),
        'plain table': one.plainRatio.toFixed(2),
        'times plain': one.timesPlain.toFixed(2),
        aim: `${MOST_STORED} ${verdict(one.ratio <= MOST_STORED)}`,
      })),
    ),
  )
}
