/** Appending: what one more turn costs in conversations of different lengths, and what it takes on disk. */
import type pg from 'pg'
import { amount, table } from '../../lib/cost/table.ts'
import { startTestDatabase } from '../../test/harness/database.ts'
import { connect, connectAsFunction } from '../connect.ts'
import { medianRatio, rounded, shuffled, verdict } from '../figures.ts'
import { ANSWER_CHARACTERS, COMPANY, QUESTION_CHARACTERS, type Thread } from '../turns.ts'
import { measureStored, type Stored } from './stored.ts'
import { makeThreads, makeWholes } from './threads.ts'
import {
  appendTurn,
  type Cost,
  counting,
  insertTurn,
  medianCost,
  type Run,
  rewriteConversation,
  timing,
  type Whole,
} from './turn.ts'

const OWN = ['open', 'open, turns of today', 'save', 'save, turns of today'] as const
/** What it would cost without us. */
const BASELINE = 'bare insert'
/** What it costs where a conversation is one document. */
const REWRITE = 'conversation rewritten'
/** What is done in a conversation. */
const SUBJECTS = [...OWN, BASELINE, REWRITE] as const
export type AppendSubject = (typeof SUBJECTS)[number]

const isOwn = (subject: AppendSubject): boolean => OWN.some((own) => own === subject)

export interface AppendFigure extends Cost {
  /** That the conversation has before. */
  messages: number
  subject: AppendSubject
  /** Against the bare insert into a conversation of this length; time by rounds. */
  timesInsert: Cost
}

export interface AppendFigures {
  /** Of each figure in milliseconds. */
  samples: { appended: number; rewritten: number }
  appends: AppendFigure[]
  /** Of each subject, the dearest length against the cheapest. */
  spread: Record<AppendSubject, Cost>
  stored: Stored[]
}

interface Rounds {
  rounds: number
  /** Of them, the first: they run under EXPLAIN, which is not timed. */
  counted: number
  /** After those. */
  warmUp: number
}

const LENGTHS = [10, 100, 1_000, 10_000]
/** Of each length and kind. Each is appended to equally often, and grows by 20 messages meanwhile. */
const THREADS = 8
const ROUNDS: Rounds = { rounds: 80, counted: 20, warmUp: 4 }
/** The longest conversation takes a third of a second to be written anew. */
const REWRITING_ROUNDS: Rounds = { rounds: 16, counted: 4, warmUp: 2 }
const timedIn = ({ rounds, counted, warmUp }: Rounds): number => rounds - counted - warmUp
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
      samples: { appended: timedIn(ROUNDS), rewritten: timedIn(REWRITING_ROUNDS) },
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
  const insert: Way = async (run, { place }) => [[BASELINE, await insertTurn(run, bare[place] as Thread)]]
  const append =
    (threads: readonly Thread[], open: AppendSubject, save: AppendSubject): Way =>
    async (run, { thread }) => {
      const { opening, saving } = await appendTurn(client, run, threads[thread] as Thread)
      return [
        [open, opening],
        [save, saving],
      ]
    }
  const appended = await inRounds(client, ROUNDS, [
    append(older, 'open', 'save'),
    append(today, 'open, turns of today', 'save, turns of today'),
    insert,
  ])
  // Afterwards: what it leaves for the disk to do would be waited for by the others.
  const wholes = await makeWholes(owner, lengths)
  const rewritten = await inRounds(client, REWRITING_ROUNDS, [
    async (run, { thread }) => [[REWRITE, await rewriteConversation(run, wholes[thread] as Whole)]],
    insert,
  ])
  return [...appended, ...rewritten.filter(({ subject }) => subject === REWRITE)]
}

interface Place {
  /** Of the length. */
  place: number
  /** Of one of the threads of that length: another in each round. */
  thread: number
}

/** Appends a turn, and tells what that cost by subject. */
type Way = (run: Run, at: Place) => Promise<[AppendSubject, Cost][]>

/** Every way in every length, round by round. One of the ways is the baseline. */
async function inRounds(
  client: pg.Client,
  { rounds, counted, warmUp }: Rounds,
  ways: readonly Way[],
): Promise<AppendFigure[]> {
  const costs = LENGTHS.map(() => new Map<AppendSubject, Cost[]>())
  for (let round = 0; round < rounds; round += 1) {
    const run: Run = round < counted ? counting(client) : timing(client)
    const isWarmUp = round >= counted && round < counted + warmUp
    for (const place of shuffled(LENGTHS.map((_, place) => place))) {
      const at = { place, thread: place * THREADS + (round % THREADS) }
      for (const way of shuffled(ways))
        for (const [subject, cost] of await way(run, at)) {
          const seen = costs[place]?.get(subject) ?? []
          if (!isWarmUp) costs[place]?.set(subject, [...seen, cost])
        }
    }
  }
  return SUBJECTS.flatMap((subject) =>
    LENGTHS.flatMap((messages, place) => {
      const seen = costs[place]?.get(subject)
      if (seen === undefined) return []
      const { ms, walBytes, blocks } = medianCost(seen)
      const timesInsert = againstInsert(seen, costs[place]?.get(BASELINE) ?? [])
      return [{ subject, messages, ms: rounded(ms), walBytes, blocks, timesInsert }]
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
    `A turn: ${QUESTION_CHARACTERS} and ${ANSWER_CHARACTERS} characters. p50 of ${samples.appended} (rewritten: of ${samples.rewritten}), one connection; what is counted is without the commit.`,
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
    const aim = !isOwn(subject) ? '' : `; aim ${MOST_SPREAD}: ${verdict(isFlat)}`
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
