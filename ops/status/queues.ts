/** How full a queue is. SQS counts approximately, and without receiving. */
import { GetQueueAttributesCommand, SQSClient } from '@aws-sdk/client-sqs'
import type { Environment } from '../environment.ts'

export interface Depth {
  waiting: number
  inHand: number
  delayed: number
}

export async function depthOf(
  environment: Environment,
  queueUrl: string,
  abortSignal: AbortSignal,
): Promise<Depth> {
  const client = new SQSClient({ ...environment.reach('SQS') })
  const command = new GetQueueAttributesCommand({
    QueueUrl: queueUrl,
    AttributeNames: [
      'ApproximateNumberOfMessages',
      'ApproximateNumberOfMessagesNotVisible',
      'ApproximateNumberOfMessagesDelayed',
    ],
  })
  const { Attributes = {} } = await client.send(command, { abortSignal })
  return {
    waiting: Number(Attributes.ApproximateNumberOfMessages),
    inHand: Number(Attributes.ApproximateNumberOfMessagesNotVisible),
    delayed: Number(Attributes.ApproximateNumberOfMessagesDelayed),
  }
}
