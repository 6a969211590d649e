/**
 * The saving function in a process of its own, called as Lambda calls it. TURNKEEP_FUNCTIONS says where it is. IPC in:
 * bodies of queue messages, a batch at a time. IPC out: {ready: true}, then {ms, refused} of each batch.
 */
import { randomUUID } from 'node:crypto'
import { pathToFileURL } from 'node:url'

const { persist } = JSON.parse(process.env.TURNKEEP_FUNCTIONS ?? '{}')
const { handler } = await import(pathToFileURL(persist.handler).href)
/** Nothing of it is looked at while nothing fails. */
const context = { functionName: 'persist', getRemainingTimeInMillis: () => 60_000 }

process.on('disconnect', () => process.exit(0))
process.on('message', async (bodies: string[]) => {
  const event = { Records: bodies.map(recordOf) }
  const startedAt = performance.now()
  const { batchItemFailures } = await handler(event, context)
  process.send?.({ ms: performance.now() - startedAt, refused: batchItemFailures.length })
})
process.send?.({ ready: true })

function recordOf(body: string) {
  return {
    messageId: randomUUID(),
    receiptHandle: randomUUID(),
    body,
    attributes: {
      ApproximateReceiveCount: '1',
      SentTimestamp: String(Date.now()),
      SenderId: 'bench',
      ApproximateFirstReceiveTimestamp: String(Date.now()),
      MessageGroupId: 'bench',
    },
    messageAttributes: {},
    eventSource: 'aws:sqs',
  }
}
