import { randomUUID } from 'node:crypto'
import type { Readable } from 'node:stream'
import { InvocationError, type InvocationFailure } from './invocation-error.ts'
import { createPolls, type Poll } from './polls.ts'
import type { Prelude } from './streamed-response.ts'

export type StreamedResult = { prelude: Prelude; body: Readable }

export type Invocation = {
  readonly id: string
  readonly payload: string
  readonly streaming: boolean
  /** When the function must have answered; known once it was handed over. */
  deadline: number
  /** Gives the caller its result; a streamed one goes on until `end`. */
  begin(result: Buffer | StreamedResult): void
  end(): void
  fail(error: InvocationError): void
  /** Breaks off what is being received; set while something is. */
  cut: ((error: InvocationError) => void) | undefined
}

/** The invocations of one function: those that wait for a poll and those that run. */
export type Invocations = {
  invoke(payload: string, streaming: boolean, waitMs: number): Promise<Buffer | StreamedResult>
  /** Asks for the next invocation; the returned function withdraws the question. */
  next(poll: Poll): () => void
  /** Offers an invocation again: its poller was gone before it arrived. */
  undelivered(invocation: Invocation): void
  running(id: string): Invocation | undefined
  /** Fails what runs and drops the polls: the process that they came from is gone. */
  failRunning(failure: InvocationFailure, why: string): void
  failQueued(failure: InvocationFailure, why: string): void
  polled(signal: AbortSignal): Promise<void>
  /** A connection broke, perhaps because the process that polls is dying. */
  distrustPolls(): void
}

/** How long an undelivered invocation waits for another poll. */
const REDELIVERY_WAIT_MS = 10_000

export function createInvocations(name: string, timeoutSeconds: number): Invocations {
  const queued = new Map<string, Invocation>()
  const running = new Map<string, Invocation>()
  const timers = new Map<string, NodeJS.Timeout>()

  const failed = (failure: InvocationFailure, why: string): InvocationError =>
    new InvocationError(failure, `${name}: ${why}`)
  const failAfter = (invocation: Invocation, ms: number, failure: InvocationFailure, why: string): void => {
    clearTimeout(timers.get(invocation.id))
    timers.set(
      invocation.id,
      setTimeout(() => invocation.fail(failed(failure, why)), ms),
    )
  }
  const forget = (id: string): void => {
    clearTimeout(timers.get(id))
    timers.delete(id)
    queued.delete(id)
    running.delete(id)
  }
  const wait = (invocation: Invocation, ms: number): void => {
    failAfter(invocation, ms, 'unavailable', 'nobody polls for it.')
    queued.set(invocation.id, invocation)
  }
  /** The function's time runs from here on. */
  const hand = (invocation: Invocation, poll: Poll): void => {
    queued.delete(invocation.id)
    running.set(invocation.id, invocation)
    invocation.deadline = Date.now() + timeoutSeconds * 1000
    failAfter(invocation, timeoutSeconds * 1000, 'timed_out', `no answer in ${timeoutSeconds} s.`)
    poll.take(invocation)
  }
  const handQueued = (): void => {
    for (const invocation of [...queued.values()]) {
      const poll = polls.take()
      if (!poll) return
      hand(invocation, poll)
    }
  }
  const polls = createPolls(handQueued)
  const offer = (invocation: Invocation, waitMs: number): void => {
    wait(invocation, waitMs)
    handQueued()
  }

  return {
    invoke: (payload, streaming, waitMs) =>
      new Promise((resolve, reject) => {
        const id = randomUUID()
        const invocation: Invocation = {
          id,
          payload,
          streaming,
          deadline: 0,
          cut: undefined,
          begin: resolve,
          end: () => forget(id),
          fail: (error) => {
            forget(id)
            reject(error)
            invocation.cut?.(error)
          },
        }
        offer(invocation, waitMs)
      }),
    next: polls.add,
    undelivered: (invocation) => {
      if (!running.delete(invocation.id)) return
      offer(invocation, REDELIVERY_WAIT_MS)
    },
    running: (id) => running.get(id),
    failRunning: (failure, why) => {
      polls.hangUp()
      for (const invocation of [...running.values()]) invocation.fail(failed(failure, why))
    },
    failQueued: (failure, why) => {
      for (const invocation of [...queued.values()]) invocation.fail(failed(failure, why))
    },
    polled: polls.some,
    distrustPolls: polls.distrust,
  }
}
