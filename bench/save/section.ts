/**
 * Saving: the statement alone beside plainer ones, the function with the Data API, and from the queue to rows through the
 * whole of the local cloud.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { amount, table } from '../../lib/cost/table.ts'
import { resources } from '../../lib/resources.ts'
import { createDatabase, startPostgresServer } from '../../test/harness/postgres-server.ts'
import { startTurnkeep } from '../../test/harness/turnkeep.ts'
import { connect, connectAsFunction } from '../connect.ts'
import { rounded, verdict } from '../figures.ts'
import {
  ANSWER_CHARACTERS,
  COMPANY,
  type MessageRecord,
  newThread,
  nextTurn,
  QUESTION_CHARACTERS,
  type Thread,
} from '../turns.ts'
import { startHandler } from './handler.ts'
import { EMPTY_TABLE_FOR_COPY, TABLE_FOR_COPY } from './inserts.ts'
import { fill, type Lag, measureLag, openSender, untilSaved } from './queue.ts'
import { BASELINE, measureStatements, type SaveFigure } from './statements.ts'

interface Queue {
  messages: number
  seconds: number
  messagesPerSecond: number
  /** Of the bare insert of as many as one call has. */
  ofBaseline: number
}

export interface SaveFigures {
  messageCharacters: number
  /** UTF-8, in the mean. */
  messageBytes: number
  statements: SaveFigure[]
  queue: Queue
  lag: Lag
}

/** The last is the most that persist is given: 1,000 messages of the queue, which fit into one statement. */
const BATCHES = [
  { batch: 10, rounds: 120 },
  { batch: 100, rounds: 50 },
  { batch: 1_000, rounds: 12 },
]
/** A batch of the most messages has two of each. */
const SESSIONS = 500
const QUEUED_TURNS = 10_000
const STEADY = { messagesPerSecond: 200, seconds: 10 }
const QUEUE_AIM = 4_000

export async function measureSave(): Promise<SaveFigures> {
  const server = await startPostgresServer()
  const url = await createDatabase(server.url, 'bench_save')
  const threads = Array.from({ length: SESSIONS }, newThread)
  try {
    const statements = await measureAlone(url, threads)
    const { queue, lag } = await measureQueue(url, threads, fastestInsert(statements))
    const texts = nextTurn(newThread()).map(({ content }: MessageRecord) => Buffer.byteLength(content))
    return {
      messageCharacters: (QUESTION_CHARACTERS + ANSWER_CHARACTERS) / 2,
      messageBytes: Math.round(texts.reduce((sum, bytes) => sum + bytes, 0) / 2),
      statements,
      queue,
      lag,
    }
  } finally {
    await server.close()
  }
}

/** Messages a second of the baseline, in its largest batch. */
const fastestInsert = (statements: readonly SaveFigure[]): number =>
  statements.findLast(({ subject }) => subject === BASELINE)?.messagesPerSecond ?? Number.NaN

async function measureAlone(url: string, threads: readonly Thread[]): Promise<SaveFigure[]> {
  const turnkeep = await startTurnkeep({ databaseUrl: url, gate: () => true })
  const [client, owner] = await Promise.all([connectAsFunction(url, COMPANY), connect(url, COMPANY)])
  const handler = await startHandler(turnkeep.cloud.functionEnvironment)
  try {
    await owner.query(TABLE_FOR_COPY)
    await makeSessions(owner, threads)
    const figures: SaveFigure[] = []
    for (const { batch, rounds } of BATCHES)
      figures.push(...(await measureStatements({ client, owner, handler, threads }, batch, rounds)))
    await owner.query(`truncate public.chat_messages; ${EMPTY_TABLE_FOR_COPY}`)
    return figures
  } finally {
    await handler.close()
    await Promise.all([client.end(), owner.end()])
    await turnkeep.close()
  }
}

/** As phase 1 leaves them: opening and closing a turn has made them, and has moved their clocks. */
async function makeSessions(owner: Awaited<ReturnType<typeof connect>>, threads: readonly Thread[]) {
  await owner.query(`insert into public.tenants (company_id, platform) values ($1, 'web')`, [COMPANY])
  await owner.query(
    `insert into public.chat_sessions (id, company_id, platform, user_id, title, last_active_at)
    select t.id::uuid, $1, 'web', 'u1', 'a conversation', now() + interval '1 day' from jsonb_array_elements_text($2) t (id)`,
    [COMPANY, JSON.stringify(threads.map(({ sessionId }) => sessionId))],
  )
}

/** The queue is on disk, as a developer's is, and is full before anybody reads it. */
async function measureQueue(
  url: string,
  threads: readonly Thread[],
  insertsPerSecond: number,
): Promise<Pick<SaveFigures, 'queue' | 'lag'>> {
  const dataDir = await mkdtemp(join(tmpdir(), 'turnkeep-save-'))
  const client = await connect(url, COMPANY)
  const turnkeep = await startTurnkeep({
    resources,
    databaseUrl: url,
    dataDir,
    gate: () => true,
    environment: async (cloud) => {
      await fill(openSender(cloud), threads, QUEUED_TURNS)
      return {}
    },
  })
  try {
    const startedAt = performance.now()
    await untilSaved(client, QUEUED_TURNS * 2)
    const seconds = (performance.now() - startedAt) / 1_000
    const messages = QUEUED_TURNS * 2
    const lag = await measureLag(openSender(turnkeep.cloud), client, threads, STEADY)
    return {
      queue: {
        messages,
        seconds: rounded(seconds),
        messagesPerSecond: Math.round(messages / seconds),
        ofBaseline: rounded(messages / seconds / insertsPerSecond),
      },
      lag,
    }
  } finally {
    await client.end()
    await turnkeep.close()
    await rm(dataDir, { recursive: true, force: true })
  }
}

export function printSave({ messageCharacters, messageBytes, statements, queue, lag }: SaveFigures): void {
  console.log(
    `Messages of ${messageCharacters} characters in the mean, half of them Hangul, ${messageBytes} bytes; two of a session.`,
  )
  console.log(
    table(
      statements.map(({ batch, subject, p50Ms, messagesPerSecond, ofBaseline, ofSameTables, aim }) => ({
        batch: String(batch),
        'one connection': subject,
        'p50 ms': p50Ms.toFixed(2),
        'messages/s': amount(messagesPerSecond),
        'of insert': percent(ofBaseline),
        'into the same tables': percent(ofSameTables),
        aim: aim === undefined ? '' : `${percent(aim)} ${verdict(ofSameTables >= aim)}`,
      })),
    ),
  )
  console.log(
    `\nFrom a full queue to rows: ${amount(queue.messagesPerSecond)} messages/s (${amount(queue.messages)} in ${queue.seconds} s), ${percent(queue.ofBaseline)} of the insert of 1,000; aim ${amount(QUEUE_AIM)}: ${verdict(queue.messagesPerSecond >= QUEUE_AIM)}`,
  )
  console.log(
    `From the queue's word to the row, ${lag.messagesPerSecond} messages/s: p50 ${amount(lag.p50Ms)} ms, p99 ${amount(lag.p99Ms)} ms (a batch waits up to 1,000 ms for more)`,
  )
}

const percent = (share: number): string => `${Math.round(share * 100)} %`
