/** The limiter of phase 1: Postgres, one Data API call for all checks of a request, by the server's clock. */
import type { LimitCheck, LimitState } from '../protocol/limits.ts'
import type { Database } from './database.ts'
import type { Limiter } from './limiter.ts'

/** Addresses have no tenant: see sql/0005_limits.sql. */
const OF_ADDRESSES = { companyId: '', platform: 'addresses' }

/** The checks as turnkeep.admit takes them. */
export const checkRows = (checks: readonly LimitCheck[]): object[] =>
  checks.map(({ kind, tenant = OF_ADDRESSES, key, limit, windowSeconds, count = 1 }) => ({
    company_id: tenant.companyId,
    platform: tenant.platform,
    kind,
    key,
    limit,
    window_seconds: windowSeconds,
    count,
  }))

export interface AdmitBody {
  states: {
    limit: number
    allowed: boolean
    remaining: number
    reset_seconds: number
    retry_after_seconds: number
  }[]
}

/** What turnkeep.admit returned for these checks. */
export const limitStates = (checks: readonly LimitCheck[], { states }: AdmitBody): LimitState[] =>
  checks.map(({ kind, windowSeconds }, index) => {
    const state = states[index]
    if (state === undefined) throw new Error('admit returned fewer states than there are checks')
    return {
      kind,
      limit: state.limit,
      windowSeconds,
      allowed: state.allowed,
      remaining: state.remaining,
      resetSeconds: state.reset_seconds,
      retryAfterSeconds: state.retry_after_seconds,
    }
  })

export function openPostgresLimiter(database: Pick<Database, 'call'>): Limiter {
  return {
    async admit(checks) {
      const [row] = await database.call<{ admit: string }>('admit', [
        { jsonb: checkRows(checks) },
        { boolean: true },
      ])
      if (row === undefined) throw new Error('admit returned no row')
      return limitStates(checks, JSON.parse(row.admit))
    },
  }
}
