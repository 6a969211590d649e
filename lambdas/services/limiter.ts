/**
 * Rate limits: at most so many requests of a user, a tenant or an address in any window of time, counted exactly,
 * whatever comes at once. A port, because it has two implementations: Postgres (phase 1) and Valkey (phase 2).
 * docs/limits.md says what is promised.
 */
import type { LimitCheck, LimitState } from '../protocol/limits.ts'

export interface Limiter {
  /**
   * Takes one request, or `count` of them, from every check, or nothing from any where one does not allow it. One round
   * trip: the checks are of one tenant, or of one address. What the tenant has set for itself (docs/tenants.md) stands in
   * the place of a check's limit. States come in the order of the checks. Fails where the limiter cannot be reached:
   * whether the request goes on then is for the caller to say.
   */
  admit(checks: readonly LimitCheck[]): Promise<LimitState[]>
}
