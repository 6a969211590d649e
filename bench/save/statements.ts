/** The statement that saves, beside plainer ones that write the same rows: in turn, on one connection. */
import type pg from 'pg'
import { median, rounded, shuffled } from '../figures.ts'
import { type MessageRecord, nextTurn, type Thread } from '../turns.ts'
import type { Handler } from './handler.ts'
import {
  copy,
  EMPTY_TABLE_FOR_COPY,
  insertOfArrays,
  insertOfValues,
  insertWithUsage,
  type Statement,
} from './inserts.ts'

/** All others stand beside it, and beside the one that writes into the same tables as saving. */
export const BASELINE = 'insert of values'
const WITH_USAGE = 'the same, and usage'
/** Compiled, connected and in the caches from then on. */
const WARM_UP_ROUNDS = 3

export interface SaveFigure {
  /** Messages of one call. */
  batch: number
  subject: string
  p50Ms: number
  messagesPerSecond: number
  /** Speed, as a share of the baseline's in the same round: the median. */
  ofBaseline: number
  /** The same of an insert into all tables that saving writes. */
  ofSameTables: number
  /** What that is to be at least. */
  aim?: number
}

interface Subject {
  name: string
  aim?: number
  /** Milliseconds. */
  save(records: readonly MessageRecord[]): Promise<number>
}

interface Means {
  /** With the rights of the functions. */
  client: pg.Client
  owner: pg.Client
  handler: Handler
  threads: readonly Thread[]
}

const timed = async (statement: Statement): Promise<number> => {
  const startedAt = performance.now()
  await statement()
  return performance.now() - startedAt
}

/** A message that is counted as it is saved, as in phase 2. */
const counted = (record: MessageRecord): MessageRecord => ({ ...record, on_save: { count: true } })

function subjects({ client, handler }: Means): Subject[] {
  const call = (text: string, records: readonly MessageRecord[]) => {
    const values = [JSON.stringify(records)]
    return timed(() => client.query({ name: text, text, values }))
  }
  const plain = (name: string, prepare: typeof copy): Subject => ({
    name,
    save: (records) => timed(prepare(client, records)),
  })
  return [
    plain(BASELINE, insertOfValues),
    plain(WITH_USAGE, insertWithUsage),
    plain('insert of arrays', insertOfArrays),
    plain('COPY, no row-level security', copy),
    {
      name: 'save_records',
      aim: 0.7,
      save: (records) => call('select * from turnkeep.save_records($1)', records),
    },
    {
      name: 'save_records, phase 2',
      save: (records) => call('select * from turnkeep.save_records($1)', records.map(counted)),
    },
    { name: 'handler and Data API', aim: 0.35, save: handler.save },
  ]
}

/** Rounds of one size; each subject saves messages of its own in each. */
export async function measureStatements(means: Means, batch: number, rounds: number): Promise<SaveFigure[]> {
  await means.owner.query(`truncate public.chat_messages; ${EMPTY_TABLE_FOR_COPY}`)
  const measured = subjects(means).map((subject) => ({ subject, times: [] as number[] }))
  let next = 0
  const turns = (count: number): MessageRecord[] =>
    Array.from({ length: count / 2 }, () =>
      nextTurn(means.threads[next++ % means.threads.length] as Thread),
    ).flat()
  for (let round = -WARM_UP_ROUNDS; round < rounds; round += 1)
    for (const { subject, times } of shuffled(measured)) {
      const ms = await subject.save(turns(batch))
      if (round >= 0) times.push(ms)
    }
  const share = (of: string, times: readonly number[]): number => {
    const others = measured.find(({ subject }) => subject.name === of)?.times ?? []
    return rounded(median(times.map((ms, round) => (others[round] ?? Number.NaN) / ms)))
  }
  return measured.map(({ subject: { name, aim }, times }) => ({
    batch,
    subject: name,
    p50Ms: rounded(median(times)),
    messagesPerSecond: Math.round((batch / median(times)) * 1_000),
    ofBaseline: share(BASELINE, times),
    ofSameTables: share(WITH_USAGE, times),
    ...(aim !== undefined && { aim }),
  }))
}
