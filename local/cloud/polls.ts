import type { Invocation } from './invocations.ts'

/** Somebody who asked for the next invocation. */
export type Poll = { take(invocation: Invocation): void; hangUp(): void }

/** The polls of one function that wait for an invocation. */
export type Polls = {
  /** Calls `arrived`; the returned function withdraws the poll. */
  add(poll: Poll): () => void
  take(): Poll | undefined
  /**
   * Something broke that may be the first sign of a process that died: the system closes its connections one after
   * the other, and an invocation given to one that is about to close would be lost. Those that outlive the moment
   * are taken again.
   */
  distrust(): void
  hangUp(): void
  /** Resolves when a poll waits; rejects when the signal aborts. */
  some(signal: AbortSignal): Promise<void>
}

/** Within this time all connections of a process that was killed are closed. */
const DISTRUST_MS = 100

export function createPolls(arrived: () => void): Polls {
  const trusted = new Set<Poll>()
  const distrusted = new Set<Poll>()
  const watchers = new Set<() => void>()
  let timer: NodeJS.Timeout | undefined

  const trust = (poll: Poll): void => {
    distrusted.delete(poll)
    trusted.add(poll)
    arrived()
    if (trusted.size > 0) for (const watcher of [...watchers]) watcher()
  }
  return {
    add: (poll) => {
      trust(poll)
      return () => {
        trusted.delete(poll)
        distrusted.delete(poll)
      }
    },
    take: () => {
      const [poll] = trusted
      if (poll) trusted.delete(poll)
      return poll
    },
    distrust: () => {
      for (const poll of trusted) distrusted.add(poll)
      trusted.clear()
      clearTimeout(timer)
      timer = setTimeout(() => [...distrusted].forEach(trust), DISTRUST_MS).unref()
    },
    hangUp: () => {
      for (const poll of [...trusted, ...distrusted]) poll.hangUp()
      trusted.clear()
      distrusted.clear()
    },
    some: (signal) =>
      new Promise((resolve, reject) => {
        if (signal.aborted) return reject(signal.reason)
        if (trusted.size > 0) return resolve()
        const stop = (): void => {
          watchers.delete(found)
          signal.removeEventListener('abort', aborted)
        }
        const found = (): void => {
          stop()
          resolve()
        }
        const aborted = (): void => {
          stop()
          reject(signal.reason)
        }
        watchers.add(found)
        signal.addEventListener('abort', aborted)
      }),
  }
}
