/** The durable queue between answering and saving. A record that `send` acknowledged is never lost. */
import { SendMessageCommand, SQSClient, type SQSClientConfig } from '@aws-sdk/client-sqs'
import { CodedError, type MessageRecord } from '../protocol.ts'

export interface TurnQueue {
  /** Resolves once the records are durable; throws CodedError `unavailable` where they are not. */
  send(records: readonly MessageRecord[]): Promise<void>
}

/** Sending is on the way to the first token and to `done`: rather fail and say so than hang. */
const SEND_TIMEOUT_MS = 3_000

// SQS refuses what XML 1.0 does; JSON.stringify escapes all of it but these two.
const NOT_IN_XML = /[\uFFFE\uFFFF]/g
export const encodeRecords = (records: readonly MessageRecord[]): string =>
  JSON.stringify(records).replace(NOT_IN_XML, (character) => `\\u${character.charCodeAt(0).toString(16)}`)

export function openTurnQueue(options: { queueUrl: string; client?: SQSClientConfig }): TurnQueue {
  const client = new SQSClient({
    maxAttempts: 3,
    requestHandler: { connectionTimeout: SEND_TIMEOUT_MS, requestTimeout: SEND_TIMEOUT_MS },
    ...options.client,
  })
  return {
    async send(records) {
      const [first] = records
      if (first === undefined) return
      try {
        await client.send(
          new SendMessageCommand({
            QueueUrl: options.queueUrl,
            MessageBody: encodeRecords(records),
            // On a standard queue a group is fairness between tenants, not order.
            MessageGroupId: tenantGroup(first),
          }),
        )
      } catch (cause) {
        throw new CodedError('unavailable', 'The turn could not be queued.', { cause })
      }
    },
  }
}

// SQS allows 128 characters of a small alphabet; a tenant's name may be anything.
const tenantGroup = ({ company_id, platform }: MessageRecord): string =>
  Buffer.from(`${company_id}/${platform}`).toString('base64url').slice(0, 128)
