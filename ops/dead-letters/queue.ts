/** The queue of dead letters. SQS cannot be looked into: a look receives, and gives back. */
import {
  ChangeMessageVisibilityBatchCommand,
  DeleteMessageCommand,
  GetQueueAttributesCommand,
  type Message,
  ReceiveMessageCommand,
  SendMessageCommand,
  SQSClient,
} from '@aws-sdk/client-sqs'
import { Failure, UsageError } from '../failures.ts'
import type { Place } from './where.ts'

export interface Letter {
  /**
   * SQS's own id of the dead letter: the same for every look and for redriving. Not the original message's, which two
   * letters share when the persister died between burying and deleting.
   */
  id: string
  /** The message that died, as persist's log names it; absent where the queue itself moved it. */
  originalId: string | undefined
  /** Absent where the queue itself moved it. */
  reason: string | undefined
  /** When it died; where the queue itself moved it, when it was first sent: SQS keeps that time. */
  sentAt: number
  /** How often it was received, looks included. */
  receives: number
  groupId: string | undefined
  body: string
}

export interface QueueState {
  /** About how many letters there are, those that others hold included. */
  letters: number
  retentionSeconds: number
}

export interface DeadLetterQueue {
  state(): Promise<QueueState>
  /**
   * Yields every letter once, a few at a time. Holds them until the loop ends, however it ends; then all that were
   * not deleted are given back.
   */
  look(signal: AbortSignal): AsyncGenerator<Letter[]>
  /** Throws Failure unless the turns queue is the one whose dead letters these are. */
  checkTurnsQueue(): Promise<void>
  /** Resolves once the turns queue has acknowledged it, with its id there. */
  send(letter: Letter): Promise<string>
  delete(letter: Letter): Promise<void>
}

/**
 * Time for a look at tens of thousands; and how long letters stay out of sight when a look is killed. A longer look
 * meets letters again, which ends it.
 */
export const HOLD_SECONDS = 120
/** Any wait at all has SQS ask all of its servers; without, it asks some and may find nothing. */
const WAIT_SECONDS = 1
const PER_CALL = 10 // SQS takes and gives no more
const CONNECT_TIMEOUT_MS = 3_000
const REQUEST_TIMEOUT_MS = 15_000

export function openDeadLetterQueue({
  deadUrl,
  turnsUrl,
  endpoint,
  region,
  credentials,
}: Place): DeadLetterQueue {
  const client = new SQSClient({
    endpoint,
    ...(region && { region }),
    ...(credentials && { credentials }),
    requestHandler: { connectionTimeout: CONNECT_TIMEOUT_MS, requestTimeout: REQUEST_TIMEOUT_MS },
  })
  const held = new Map<string, string>() // receipt handles by letter

  async function giveBack(): Promise<void> {
    const handles = [...held.values()]
    held.clear()
    for (let at = 0; at < handles.length; at += PER_CALL)
      await client.send(
        new ChangeMessageVisibilityBatchCommand({
          QueueUrl: deadUrl,
          // One that fails has come back by itself.
          Entries: handles.slice(at, at + PER_CALL).map((handle, index) => ({
            Id: String(index),
            ReceiptHandle: handle,
            VisibilityTimeout: 0,
          })),
        }),
      )
  }

  const requireTurnsUrl = (): string => {
    if (turnsUrl === undefined)
      throw new UsageError('Where to? Name the turns queue with --source (or TURNS_QUEUE_URL).')
    return turnsUrl
  }

  const attributesOf = async (
    url: string,
    names: (
      | 'QueueArn'
      | 'RedrivePolicy'
      | 'MessageRetentionPeriod'
      | `ApproximateNumberOfMessages${'' | 'NotVisible'}`
    )[],
  ) =>
    (await client.send(new GetQueueAttributesCommand({ QueueUrl: url, AttributeNames: names }))).Attributes ??
    {}

  return {
    async state() {
      const attributes = await attributesOf(deadUrl, [
        'ApproximateNumberOfMessages',
        'ApproximateNumberOfMessagesNotVisible',
        'MessageRetentionPeriod',
      ])
      return {
        letters:
          Number(attributes.ApproximateNumberOfMessages) +
          Number(attributes.ApproximateNumberOfMessagesNotVisible),
        retentionSeconds: Number(attributes.MessageRetentionPeriod),
      }
    },
    async *look(signal) {
      const seen = new Set<string>()
      try {
        while (!signal.aborted) {
          const { Messages = [] } = await client.send(
            new ReceiveMessageCommand({
              QueueUrl: deadUrl,
              MaxNumberOfMessages: PER_CALL,
              WaitTimeSeconds: WAIT_SECONDS,
              VisibilityTimeout: HOLD_SECONDS,
              MessageSystemAttributeNames: ['All'],
              MessageAttributeNames: ['All'],
            }),
          )
          for (const { MessageId = '', ReceiptHandle = '' } of Messages) held.set(MessageId, ReceiptHandle)
          const fresh = Messages.map(toLetter).filter(({ id }) => !seen.has(id))
          if (fresh.length === 0) return
          for (const { id } of fresh) seen.add(id)
          yield fresh
        }
      } finally {
        await giveBack().catch(() =>
          console.error(`Not all letters could be given back; they are hidden for ${HOLD_SECONDS} s.`),
        )
      }
    },
    async checkTurnsQueue() {
      const [{ RedrivePolicy = '{}' }, { QueueArn }] = await Promise.all([
        attributesOf(requireTurnsUrl(), ['RedrivePolicy']),
        attributesOf(deadUrl, ['QueueArn']),
      ])
      if (JSON.parse(RedrivePolicy).deadLetterTargetArn !== QueueArn)
        throw new Failure(`${turnsUrl} does not send its dead letters to ${deadUrl}: nothing was moved.`)
    },
    async send({ body, groupId }) {
      const { MessageId = '' } = await client.send(
        new SendMessageCommand({
          QueueUrl: requireTurnsUrl(),
          // As it came, not as it was understood: what a newer version put into it stays in it.
          MessageBody: body,
          ...(groupId === undefined ? {} : { MessageGroupId: groupId }),
        }),
      )
      return MessageId
    },
    async delete({ id }) {
      await client.send(new DeleteMessageCommand({ QueueUrl: deadUrl, ReceiptHandle: held.get(id) ?? '' }))
      held.delete(id)
    },
  }
}

function toLetter({ MessageId = '', Body = '', Attributes = {}, MessageAttributes = {} }: Message): Letter {
  return {
    id: MessageId,
    originalId: MessageAttributes.originalMessageId?.StringValue,
    reason: MessageAttributes.reason?.StringValue,
    sentAt: Number(Attributes.SentTimestamp),
    receives: Number(Attributes.ApproximateReceiveCount),
    groupId: Attributes.MessageGroupId,
    body: Body,
  }
}
