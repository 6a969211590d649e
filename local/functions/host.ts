import { isStreaming } from './awslambda.ts'
import { asFunction } from './mark-calls.ts'
import type { NextInvocation, RuntimeClient } from './runtime-client.ts'

/** Open polls per function: each takes one invocation of a burst without waiting for the one before. */
const IDLE_POLLS = 8
/** Lambda's concurrency in a new account. */
const MAX_RUNNING = 1_000

export type Handler = (...parameters: unknown[]) => unknown

export type HostedFunction = {
  /** Takes no further invocations. Those that are polled for already still run. */
  stop(): void
  running(): number
}

/**
 * Polls one function's Runtime API and runs its handler, several invocations at once. `changed` is called
 * whenever an invocation has ended; `lost` when the Runtime API does not answer.
 */
export function hostFunction(
  name: string,
  handler: Handler,
  client: RuntimeClient,
  events: { changed(): void; lost(error: unknown): void },
): HostedFunction {
  let polling = 0
  let running = 0
  let stopped = false

  const poll = async (): Promise<void> => {
    const invocation = await client.next()
    polling -= 1
    running += 1
    fill()
    try {
      await run(name, handler, client, invocation)
    } finally {
      running -= 1
      fill()
      events.changed()
    }
  }
  const fill = (): void => {
    while (!stopped && polling < IDLE_POLLS && polling + running < MAX_RUNNING) {
      polling += 1
      poll().catch((error) => {
        if (!stopped) events.lost(error)
      })
    }
  }
  fill()
  return {
    stop: () => {
      stopped = true
    },
    running: () => running,
  }
}

async function run(name: string, handler: Handler, client: RuntimeClient, invocation: NextInvocation) {
  const context = {
    callbackWaitsForEmptyEventLoop: true,
    functionName: name,
    functionVersion: '$LATEST',
    invokedFunctionArn: invocation.functionArn,
    memoryLimitInMB: '1024',
    awsRequestId: invocation.requestId,
    logGroupName: `/aws/lambda/${name}`,
    logStreamName: 'local',
    getRemainingTimeInMillis: () => Math.max(0, invocation.deadlineMs - Date.now()),
  }
  if (isStreaming(handler)) return runStreaming(name, handler, client, invocation, context)
  let json: string
  try {
    json = JSON.stringify((await asFunction(name, () => handler(invocation.event, context))) ?? null)
  } catch (error) {
    logFailure(name, invocation.requestId, error)
    return client.fail(invocation.requestId, error)
  }
  return client.respond(invocation.requestId, json)
}

/** As on Lambda, the invocation lasts until the handler has ended the stream. */
async function runStreaming(
  name: string,
  handler: Handler,
  client: RuntimeClient,
  { requestId, event }: NextInvocation,
  context: object,
): Promise<void> {
  const { stream, done } = client.stream(requestId)
  const cut = done.then(
    () => undefined,
    (error: unknown) => error, // timed out there, or the cloud is gone: nobody is left to tell
  )
  try {
    await asFunction(name, () => handler(event, stream, context))
  } catch (error) {
    logFailure(name, requestId, error)
    if (!stream.destroyed) client.breakOff(stream, error)
  }
  await cut
}

/** The event is left out: no log line holds message content. */
function logFailure(name: string, requestId: string, error: unknown): void {
  const stack = error instanceof Error ? error.stack : String(error)
  console.error(JSON.stringify({ level: 'ERROR', message: 'Invoke Error', function: name, requestId, stack }))
}
