/** What the browser tells of the network: when to give a connection up, and when to try again. */

/** The server sends a comment at least every 15 s; three missed ones mean that the connection is dead. */
const SILENCE_LIMIT_MS = 45_000
/** One missed comment is enough where the machine may have slept: somebody is looking, and waits. */
const SUSPICIOUS_SILENCE_MS = 20_000

export interface Connection {
  /** Something was heard. */
  isAlive(): void
  /** It is over: nothing is watched any more. */
  leave(): void
}

/** Calls `lost`, perhaps more than once, where nothing is heard for long or the browser says that it is offline. */
export function watchConnection(lost: () => void): Connection {
  let heardAt = Date.now()
  let timer = setTimeout(lost, SILENCE_LIMIT_MS)
  const onVisible = (): void => {
    if (document.visibilityState === 'visible' && Date.now() - heardAt > SUSPICIOUS_SILENCE_MS) lost()
  }
  addEventListener('offline', lost)
  document.addEventListener('visibilitychange', onVisible)
  return {
    isAlive() {
      heardAt = Date.now()
      clearTimeout(timer)
      timer = setTimeout(lost, SILENCE_LIMIT_MS)
    },
    leave() {
      clearTimeout(timer)
      removeEventListener('offline', lost)
      document.removeEventListener('visibilitychange', onVisible)
    },
  }
}

/** Resolves after a while; sooner when the network comes back, or somebody looks at the page again. */
export const pause = (ms: number): Promise<void> =>
  new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer)
      removeEventListener('online', end)
      document.removeEventListener('visibilitychange', onVisible)
      resolve()
    }
    const onVisible = (): void => {
      if (document.visibilityState === 'visible') end()
    }
    const timer = setTimeout(end, ms)
    addEventListener('online', end)
    document.addEventListener('visibilitychange', onVisible)
  })
