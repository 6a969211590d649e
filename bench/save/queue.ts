/** From the queue to rows, through the whole of the local cloud: as fast as it goes, and under steady traffic. */
import { setTimeout as sleep } from 'node:timers/promises'
import { SendMessageBatchCommand, SQSClient } from '@aws-sdk/client-sqs'
import type pg from 'pg'
import type { Cloud } from '../../local/cloud/cloud.ts'
import { percentile, rounded } from '../figures.ts'
import { type MessageRecord, nextTurn, type Thread } from '../turns.ts'

/** What SQS takes in one call. */
const MESSAGES_A_CALL = 10
const CALLS_AT_ONCE = 4
const LOOK_MS = 20
/** A batch's window is a second; what takes much longer will never come. */
const PATIENCE_MS = 60_000

export interface Lag {
  messagesPerSecond: number
  samples: number
  /** From the queue's word that it has the message until its row is seen, to 20 ms. */
  p50Ms: number
  p99Ms: number
}

export interface Sender {
  /** Returns when the queue has them. */
  send(records: readonly MessageRecord[]): Promise<void>
}

export function openSender({ functionEnvironment }: Cloud): Sender {
  const { AWS_REGION, AWS_ENDPOINT_URL_SQS, TURNS_QUEUE_URL } = functionEnvironment
  const sqs = new SQSClient({
    region: AWS_REGION ?? '',
    endpoint: AWS_ENDPOINT_URL_SQS ?? '',
    credentials: { accessKeyId: 'local', secretAccessKey: 'local' },
  })
  return {
    async send(records) {
      const Entries = records.map((record, index) => ({
        Id: String(index),
        MessageBody: JSON.stringify({ records: [record] }),
        MessageGroupId: 'bench',
      }))
      const { Failed = [] } = await sqs.send(
        new SendMessageBatchCommand({ QueueUrl: TURNS_QUEUE_URL ?? '', Entries }),
      )
      if (Failed.length > 0) throw new Error(`The queue refused ${Failed.length} messages.`)
    },
  }
}

/** Puts so many turns into the queue. */
export async function fill({ send }: Sender, threads: readonly Thread[], turns: number): Promise<void> {
  let left = turns
  const fillOn = async (): Promise<void> => {
    while (left > 0) {
      const count = Math.min(left, MESSAGES_A_CALL / 2)
      left -= count
      await send(
        Array.from({ length: count }, (_, at) =>
          nextTurn(threads[(left + at) % threads.length] as Thread),
        ).flat(),
      )
    }
  }
  await Promise.all(Array.from({ length: CALLS_AT_ONCE }, fillOn))
}

/** Resolves when the table has so many messages. */
export async function untilSaved(client: pg.Client, messages: number): Promise<void> {
  const givenUpAt = performance.now() + PATIENCE_MS
  for (;;) {
    const { rows } = await client.query<{ count: string }>('select count(*) from public.chat_messages')
    if (Number(rows[0]?.count) === messages) return
    if (performance.now() > givenUpAt) throw new Error(`${rows[0]?.count} of ${messages} messages are there.`)
    await sleep(LOOK_MS)
  }
}

/** Sends a turn at a time, in equal distances, and looks for the rows. */
export async function measureLag(
  { send }: Sender,
  client: pg.Client,
  threads: readonly Thread[],
  { messagesPerSecond, seconds }: { messagesPerSecond: number; seconds: number },
): Promise<Lag> {
  const accepted = new Map<string, number>()
  const lags: number[] = []
  let sent = 0
  const look = async (): Promise<void> => {
    const { rows } = await client.query<{ id: string }>({
      name: 'seen',
      text: `select m.id from unnest($1::uuid[]) w (id)
        join public.chat_messages m on m.company_id = current_setting('turnkeep.company_id') and m.platform = 'web' and m.id = w.id`,
      values: [`{${[...accepted.keys()].join()}}`],
    })
    const seenAt = performance.now()
    for (const { id } of rows) {
      lags.push(seenAt - (accepted.get(id) ?? seenAt))
      accepted.delete(id)
    }
  }
  const turns = (messagesPerSecond * seconds) / 2
  const startedAt = performance.now()
  const sendAll = async (): Promise<void> => {
    const sending: Promise<void>[] = []
    for (let turn = 0; turn < turns; turn += 1) {
      await sleep(Math.max(0, startedAt + (turn * 2_000) / messagesPerSecond - performance.now()))
      const records = nextTurn(threads[turn % threads.length] as Thread)
      const sendTurn = async (): Promise<void> => {
        for (const record of records) {
          await send([record])
          accepted.set(record.id, performance.now())
          sent += 1
        }
      }
      sending.push(sendTurn())
    }
    await Promise.all(sending)
  }
  const sending = sendAll()
  const givenUpAt = startedAt + seconds * 1_000 + PATIENCE_MS
  while (lags.length < turns * 2) {
    await look()
    if (performance.now() > givenUpAt) throw new Error(`${lags.length} of ${sent} messages were seen.`)
    await sleep(LOOK_MS)
  }
  await sending
  return {
    messagesPerSecond,
    samples: lags.length,
    p50Ms: rounded(percentile(lags, 0.5), 0),
    p99Ms: rounded(percentile(lags, 0.99), 0),
  }
}
