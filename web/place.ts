/** Which conversation is open, as the address says: `#/s/<session id>`, or nothing for a new one. */
import { type Signal, signal } from './store.ts'

const PATTERN = /^#\/s\/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/i

const fromAddress = (): string | null => PATTERN.exec(location.hash)?.[1]?.toLowerCase() ?? null

export const addressOf = (sessionId: string): string => `#/s/${sessionId}`

export interface Place {
  readonly open: Signal<string | null>
  go(sessionId: string | null): void
}

export function watchPlace(): Place {
  const open = signal(fromAddress())
  addEventListener('hashchange', () => open.set(fromAddress()))
  addEventListener('popstate', () => open.set(fromAddress()))
  return {
    open,
    go(sessionId) {
      const target = sessionId === null ? location.pathname : addressOf(sessionId)
      if (fromAddress() !== sessionId) history.pushState(null, '', target)
      open.set(sessionId)
    },
  }
}
