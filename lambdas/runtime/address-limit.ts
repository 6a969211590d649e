/**
 * The limit of requests without a valid token, by address. Each instance counts for itself, and tells the shared limiter
 * only of an address that has made a tenth of its limit here. A stray request costs no call and wakes no database that
 * sleeps; a flood costs one call for each request that the limit still lets through, and then none.
 */
import type { LimitCheck, LimitState } from '../protocol/limits.ts'

/** Of the limit: requests of an address that an instance keeps to itself. */
const UNTOLD_SHARE = 0.1
/** Above this the address that was seen first is forgotten: a flood from everywhere must not fill the memory. */
const MAX_ADDRESSES = 5_000

interface Seen {
  /** When each request of the last window came, oldest first, on this process's own clock. */
  times: number[]
  /** How many of them the shared limiter does not know. */
  untold: number
  /** Until then the shared limiter has refused. */
  refusedUntil: number
}

interface Options {
  limiter: { admit: (checks: readonly LimitCheck[]) => Promise<LimitState[]> }
  keyOf: (network: string) => Promise<string>
  limit: number
  windowSeconds: number
  /** The shared limiter could not be asked: this instance's own count holds. */
  onUnchecked: (error: unknown) => void
  /** Milliseconds, never going back. */
  now?: () => number
}

export function openAddressLimit(options: Options): (network: string) => Promise<LimitState> {
  const { limiter, keyOf, limit, windowSeconds, onUnchecked, now = () => performance.now() } = options
  const windowMs = windowSeconds * 1_000
  const untoldMost = Math.floor(limit * UNTOLD_SHARE)
  const seen = new Map<string, Seen>()

  function lookUp(network: string): Seen {
    const known = seen.get(network) ?? { times: [], untold: 0, refusedUntil: 0 }
    const from = known.times.findIndex((time) => time > now() - windowMs)
    known.times = from === -1 ? [] : known.times.slice(from)
    known.untold = Math.min(known.untold, known.times.length)
    if (!seen.has(network) && seen.size >= MAX_ADDRESSES) seen.delete(seen.keys().next().value as string)
    seen.set(network, known)
    return known
  }
  const secondsUntil = (time: number): number => Math.max(1, Math.ceil((time - now()) / 1_000))
  const stateOf = ({ times, refusedUntil }: Seen, allowed: boolean): LimitState => {
    const resetSeconds = secondsUntil((times[0] ?? now()) + windowMs)
    return {
      kind: 'address',
      limit,
      windowSeconds,
      allowed,
      remaining: refusedUntil > now() ? 0 : Math.max(0, limit - times.length),
      resetSeconds,
      retryAfterSeconds: allowed ? 0 : refusedUntil > now() ? secondsUntil(refusedUntil) : resetSeconds,
    }
  }

  /** Tells the shared limiter what it does not know yet; undefined where it cannot be asked. */
  async function tell(network: string, known: Seen): Promise<LimitState | undefined> {
    const count = known.untold
    known.untold = 0
    try {
      const [state] = await limiter.admit([
        { kind: 'address', key: await keyOf(network), limit, windowSeconds, count },
      ])
      return state
    } catch (error) {
      known.untold += count
      onUnchecked(error)
      return undefined
    }
  }

  return async (network) => {
    const known = lookUp(network)
    if (known.refusedUntil > now() || known.times.length >= limit) return stateOf(known, false)
    known.times.push(now())
    known.untold += 1
    const own = stateOf(known, true)
    if (known.times.length <= untoldMost) return own
    const shared = await tell(network, known)
    if (shared === undefined) return own
    if (!shared.allowed) known.refusedUntil = now() + shared.retryAfterSeconds * 1_000
    return shared.remaining < own.remaining || !shared.allowed ? shared : own
  }
}
