/**
 * The queues: of turns, between answering and saving, and of jobs, between asking and doing. What `send` acknowledged is
 * never lost.
 */
import {
  ChangeMessageVisibilityBatchCommand,
  ChangeMessageVisibilityCommand,
  GetQueueAttributesCommand,
  SendMessageBatchCommand,
  SendMessageCommand,
  SQSClient,
} from '@aws-sdk/client-sqs'
import type { Tenant } from '../protocol/callers.ts'
import { CodedError } from '../protocol/errors.ts'
import type { QueueBody, QueueMessage } from '../protocol/queue.ts'
import type { JobMessage } from '../protocol/rights.ts'
import { openAwsCall } from './aws-call.ts'
import { Sha256 } from './sha256.ts'

export interface TurnQueue {
  /** Resolves once all of them (at most 10) are durable; throws CodedError `unavailable` where one is not. */
  send(messages: readonly QueueMessage[]): Promise<void>
  /** Whether it holds nothing: waiting, delayed or in somebody's hands. SQS counts approximately. */
  isEmpty(): Promise<boolean>
}

/** Sending is on the way to the first token and to `done`: rather spool and go on than hang. */
const CONNECT_TIMEOUT_MS = 1_000
const REQUEST_TIMEOUT_MS = 3_000

// SQS refuses what XML 1.0 does, and characters beyond U+FFFF have not always been let through. JSON.stringify
// escapes all the rest.
const REFUSED_BY_SQS = /[\uD800-\uDFFF\uFFFE\uFFFF]/g
const escaped = (character: string): string => `\\u${character.charCodeAt(0).toString(16)}`
export const encodeBody = (body: QueueBody): string => JSON.stringify(body).replace(REFUSED_BY_SQS, escaped)

// SQS allows 128 characters of a small alphabet; a tenant's name may be anything.
const tenantGroup = ({ companyId, platform }: Tenant): string =>
  Buffer.from(JSON.stringify([companyId, platform]))
    .toString('base64url')
    .slice(0, 128)

const openClient = (): SQSClient =>
  new SQSClient({
    maxAttempts: 2,
    sha256: Sha256,
    requestHandler: {
      connectionTimeout: CONNECT_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      throwOnRequestTimeout: true, // else it is only warned of
    },
  })

export function openTurnQueue(queueUrl: string): TurnQueue {
  const client = openClient()
  const sendMessageBatch = openAwsCall(
    client,
    () => new SendMessageBatchCommand({ QueueUrl: queueUrl, Entries: [] }),
  )
  return {
    async send(messages) {
      try {
        const { Failed = [] } = await sendMessageBatch({
          QueueUrl: queueUrl,
          Entries: messages.map(({ tenant, body, delaySeconds }, index) => ({
            Id: String(index),
            MessageBody: encodeBody(body),
            // On a standard queue a group is fairness between tenants, not order.
            MessageGroupId: tenantGroup(tenant),
            ...(delaySeconds === undefined ? {} : { DelaySeconds: delaySeconds }),
          })),
        })
        if (Failed.length > 0) throw new Error(`refused: ${Failed.map(({ Code }) => Code).join(', ')}`)
      } catch (cause) {
        throw new CodedError('unavailable', 'The turn could not be queued.', { cause })
      }
    },
    async isEmpty() {
      const { Attributes = {} } = await client.send(
        new GetQueueAttributesCommand({
          QueueUrl: queueUrl,
          AttributeNames: [
            'ApproximateNumberOfMessages',
            'ApproximateNumberOfMessagesDelayed',
            'ApproximateNumberOfMessagesNotVisible',
          ],
        }),
      )
      return Object.values(Attributes).every((count) => Number(count) === 0)
    },
  }
}

/** A message of the turns queue as its consumer has it in hand. */
export interface Delivery {
  id: string
  receiptHandle: string
  body: string
  /** The tenant's, so that it keeps its fairness among the dead and on its way back. */
  groupId: string | undefined
  /** Milliseconds since the epoch. */
  sentAt: number
}

export interface DeliveryDesk {
  /** Moves a message that can never be saved to the dead letters, with the reason. The caller then forgets it. */
  bury(delivery: Delivery, reason: string): Promise<void>
  /** Has each message come back after a while, 0 to 43,200 seconds; untold, after the queue's own visibility timeout. */
  postpone(postponed: readonly { delivery: Delivery; seconds: number }[]): Promise<void>
}

/** What one call takes. */
const VISIBILITY_BATCH = 10

export function openDeliveryDesk(options: { queueUrl: string; deadQueueUrl: string }): DeliveryDesk {
  const client = openClient()
  return {
    async bury(delivery, reason) {
      await client.send(
        new SendMessageCommand({
          QueueUrl: options.deadQueueUrl,
          MessageBody: delivery.body,
          MessageGroupId: delivery.groupId,
          MessageAttributes: {
            reason: { DataType: 'String', StringValue: reason },
            originalMessageId: { DataType: 'String', StringValue: delivery.id },
          },
        }),
      )
    },
    async postpone(postponed) {
      const batches = Array.from({ length: Math.ceil(postponed.length / VISIBILITY_BATCH) }, (_, index) =>
        postponed.slice(index * VISIBILITY_BATCH, (index + 1) * VISIBILITY_BATCH),
      )
      for (const batch of batches)
        await client.send(
          new ChangeMessageVisibilityBatchCommand({
            QueueUrl: options.queueUrl,
            Entries: batch.map(({ delivery, seconds }, index) => ({
              Id: String(index),
              ReceiptHandle: delivery.receiptHandle,
              VisibilityTimeout: seconds,
            })),
          }),
        )
    },
  }
}

export interface JobQueue {
  /** Resolves once it is durable; throws CodedError `unavailable` where it is not. */
  send(job: JobMessage, options?: { delaySeconds: number }): Promise<void>
  /** Has a job that failed come back after a while. */
  postpone(receiptHandle: string, seconds: number): Promise<void>
}

export function openJobQueue(queueUrl: string): JobQueue {
  const client = openClient()
  return {
    async send(job, { delaySeconds } = { delaySeconds: 0 }) {
      const message = {
        QueueUrl: queueUrl,
        MessageBody: JSON.stringify(job).replace(REFUSED_BY_SQS, escaped),
        MessageGroupId: tenantGroup(job),
        DelaySeconds: delaySeconds,
      }
      await client.send(new SendMessageCommand(message)).catch((cause) => {
        throw new CodedError('unavailable', 'The job could not be queued.', { cause })
      })
    },
    async postpone(ReceiptHandle, VisibilityTimeout) {
      await client.send(
        new ChangeMessageVisibilityCommand({ QueueUrl: queueUrl, ReceiptHandle, VisibilityTimeout }),
      )
    },
  }
}
