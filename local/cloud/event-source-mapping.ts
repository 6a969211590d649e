import { setTimeout as delay } from 'node:timers/promises'
import {
  DeleteMessageBatchCommand,
  type Message,
  ReceiveMessageCommand,
  type ReceiveMessageResult,
  type SQSClient,
} from '@aws-sdk/client-sqs'
import type { SQSBatchResponse } from 'aws-lambda'
import { openAwsCall } from '../../lambdas/services/aws-call.ts'
import { MAX_PAYLOAD_BYTES, type RuntimeApi } from './runtime-api.ts'
import { toSqsRecord } from './sqs-record.ts'

/** SQS gives at most ten messages a call, and deletes at most ten. */
const MESSAGES_PER_CALL = 10
/** Receives at once, from a queue that is full; from one that is not, most would come back empty. */
const MAX_RECEIVES = 10
const LONG_POLL_SECONDS = 20
/** Between looks at an empty queue while a batch is gathered: a long poll could not end with the window. */
const GATHER_PAUSE_MS = 25
/** After an error of the queue. */
const RETRY_PAUSE_MS = 500
/** Room for the `{"Records":[…]}` around the records. */
const ENVELOPE_BYTES = 1_024

export type EventSourceMapping = {
  /** Receives nothing more; resolves when the batches that are being processed have ended. */
  stop(): Promise<void>
}

type Options = {
  sqs: SQSClient
  queueUrl: string
  queueArn: string
  region: string
  runtimeApi: Pick<RuntimeApi, 'invoke' | 'polled'>
  functionName: string
  batchSize: number
  windowSeconds: number
  reportBatchItemFailures: boolean
  maxConcurrency: number
  /** What went wrong, without message content. */
  log?: (problem: string) => void
}

/**
 * Feeds a function from a queue as Lambda does: batches by size, window and payload limit; what succeeded is
 * deleted, what failed comes back when its visibility ends, and the queue's redrive policy counts.
 */
export function startEventSourceMapping(options: Options): EventSourceMapping {
  const stopping = new AbortController()
  const workers = Array.from({ length: options.maxConcurrency }, () => work(options, stopping.signal))
  return {
    stop: async () => {
      stopping.abort()
      await Promise.all(workers)
    },
  }
}

async function work(options: Options, signal: AbortSignal): Promise<void> {
  const source = createSource(options, signal)
  const remove = openRemoving(options)
  while (!signal.aborted) {
    try {
      // Where no function is there, receiving would only use up receives until messages are dead letters.
      await options.runtimeApi.polled(options.functionName, signal)
      const batch = await gather(options, source, signal)
      if (batch.length > 0) await processBatch(options, batch, remove)
    } catch (error) {
      if (signal.aborted) return
      options.log?.(`${options.functionName}: ${error instanceof Error ? error.message : error}`)
      await delay(RETRY_PAUSE_MS, undefined, { signal }).catch(() => undefined)
    }
  }
}

/** `json` is the record as it stands in the event. */
type Received = { message: Message; json: string; bytes: number }
type Source = {
  /** Waits for messages; rejects when the mapping stops. */
  waitForSome(): Promise<Received[]>
  /** What is there now, at most `count`; `isFull`: as much as that is thought to be there. */
  takeNow(count: number, isFull: boolean): Promise<Received[]>
  /** What was received and did not fit into a batch is taken first next time. */
  putBack(received: Received[]): void
}

function createSource({ sqs, queueUrl, queueArn, region, batchSize }: Options, signal: AbortSignal): Source {
  let carried: Received[] = []
  const request = (count: number, waitSeconds: number) => ({
    QueueUrl: queueUrl,
    MaxNumberOfMessages: Math.min(count, MESSAGES_PER_CALL),
    WaitTimeSeconds: waitSeconds,
    MessageSystemAttributeNames: ['All' as const],
    MessageAttributeNames: ['All'],
  })
  // Of a full queue this and removing are most of the work. A long poll is rare, and has to end when the mapping stops.
  const receiveNow = openAwsCall(sqs, () => new ReceiveMessageCommand(request(1, 0)))
  const received = ({ Messages = [] }: ReceiveMessageResult): Received[] =>
    Messages.map((message) => {
      const json = JSON.stringify(toSqsRecord(message, queueArn, region))
      return { message, json, bytes: Buffer.byteLength(json) + 1 }
    })
  const takeCarried = (count: number): Received[] | undefined =>
    carried.length > 0 ? carried.splice(0, count) : undefined
  return {
    waitForSome: async () =>
      takeCarried(batchSize) ??
      received(
        await sqs.send(new ReceiveMessageCommand(request(batchSize, LONG_POLL_SECONDS)), {
          abortSignal: signal,
        }),
      ),
    takeNow: async (count, isFull) => {
      const calls = isFull ? Math.min(Math.floor(count / MESSAGES_PER_CALL), MAX_RECEIVES) : 1
      return (
        takeCarried(count) ??
        (
          await Promise.all(
            Array.from({ length: Math.max(calls, 1) }, () => receiveNow(request(count, 0)).then(received)),
          )
        ).flat()
      )
    },
    putBack: (received) => {
      carried = [...received, ...carried]
    },
  }
}

/** The window begins with the first message, as Lambda's does. */
async function gather({ batchSize, windowSeconds }: Options, source: Source, signal: AbortSignal) {
  const batch: Received[] = []
  let bytes = ENVELOPE_BYTES
  let taken = await source.waitForSome()
  const windowEnds = Date.now() + windowSeconds * 1000
  while (taken.length > 0 || batch.length > 0) {
    const fitting = countFitting(taken, MAX_PAYLOAD_BYTES - bytes)
    for (const received of taken.slice(0, fitting)) {
      batch.push(received)
      bytes += received.bytes
    }
    source.putBack(taken.slice(fitting))
    if (fitting < taken.length || batch.length >= batchSize) break
    if (Date.now() >= windowEnds || signal.aborted) break
    if (taken.length === 0) await delay(GATHER_PAUSE_MS)
    // When the queue fails now, what is gathered goes to the function all the same.
    const isFull = taken.length >= MESSAGES_PER_CALL
    taken = await source.takeNow(batchSize - batch.length, isFull).catch(() => [])
  }
  return batch
}

/** At least one, since a message is always smaller than a payload. */
function countFitting(taken: Received[], roomBytes: number): number {
  let room = roomBytes
  const index = taken.findIndex(({ bytes }) => {
    room -= bytes
    return room < 0
  })
  return index === -1 ? taken.length : index
}

async function processBatch(options: Options, received: Received[], remove: Remove): Promise<void> {
  const batch = received.map(({ message }) => message)
  const event = `{"Records":[${received.map(({ json }) => json).join(',')}]}`
  const payload = await options.runtimeApi.invoke(options.functionName, event)
  const failed = options.reportBatchItemFailures ? failedIds(payload, batch) : new Set<string>()
  const done = batch.filter((message) => !failed.has(message.MessageId ?? ''))
  const calls: Promise<unknown>[] = []
  for (let at = 0; at < done.length; at += MESSAGES_PER_CALL) {
    calls.push(remove(done.slice(at, at + MESSAGES_PER_CALL)))
  }
  await Promise.all(calls)
}

/** Takes at most ten messages from the queue. */
type Remove = (messages: Message[]) => Promise<void>

function openRemoving({ sqs, queueUrl }: Options): Remove {
  const deleteMessages = openAwsCall(
    sqs,
    () => new DeleteMessageBatchCommand({ QueueUrl: queueUrl, Entries: [] }),
  )
  return async (messages) => {
    const Entries = messages.map(({ ReceiptHandle }, index) => ({ Id: String(index), ReceiptHandle }))
    await deleteMessages({ QueueUrl: queueUrl, Entries })
  }
}

/**
 * https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html: nothing, null or an empty list
 * is success; an answer that is no JSON, an empty or unknown id, or an item without one fails the whole batch.
 */
function failedIds(payload: Buffer, batch: Message[]): Set<string> {
  const all = new Set(batch.map((message) => message.MessageId ?? ''))
  try {
    const response: Partial<SQSBatchResponse> | null = JSON.parse(payload.toString() || 'null')
    const ids = (response?.batchItemFailures ?? []).map((item) => item.itemIdentifier)
    return ids.every((id) => all.has(id)) ? new Set(ids) : all
  } catch {
    return all
  }
}
