/** Limits of requests, as they are asked for and told; and how a budget that is used up is. */
import type { Tenant } from './callers.ts'

export type LimitKind = 'user' | 'tenant' | 'address'

/** One limit that a request is held to. */
export interface LimitCheck {
  kind: LimitKind
  /** Absent for addresses, which have none. */
  tenant?: Tenant
  /** The user's id, '' for the tenant, an address's keyed hash. */
  key: string
  /** Requests in any window; 0: none at all. */
  limit: number
  windowSeconds: number
  /** Requests that this one stands for; absent: itself. */
  count?: number
}

/** How a limit stands after a request was held to it. */
export interface LimitState {
  kind: LimitKind
  limit: number
  windowSeconds: number
  allowed: boolean
  /** Requests that would be let through now. */
  remaining: number
  /** Until the oldest request that counts does no more. */
  resetSeconds: number
  /** 0 where it was allowed. */
  retryAfterSeconds: number
}

/** The limits of one request, for whoever checks them in the same round trip as something else. */
export interface Admission {
  checks: readonly LimitCheck[]
  /** Told how they stand, once. Throws `rate_limited` where one did not allow the request. */
  settle(states: readonly LimitState[]): void
}

/** Why a question was refused with `quota_exceeded`: of several budgets the one that is there again last. */
export interface QuotaDetails {
  /** Whose budget it is: the session's owner's, or that of all users of the tenant together. */
  budget: 'user' | 'tenant'
  period: 'day' | 'month'
  limit: number
  /** In this period, with what the turns that are running may still use. */
  used: number
  /** When the next period begins. */
  resetsAt: string
}
