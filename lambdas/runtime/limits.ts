/**
 * What a request is held to, and how its answer says so: a user's and a tenant's limit where its token is valid, its
 * address's where it has none. docs/limits.md.
 */
import type { Logger } from '@aws-lambda-powertools/logger'
import type { LambdaFunctionURLEvent } from 'aws-lambda'
import type { Caller } from '../protocol/callers.ts'
import { CodedError } from '../protocol/errors.ts'
import type { Admission, LimitCheck, LimitState } from '../protocol/limits.ts'
import type { Count } from '../protocol/metrics.ts'
import { openAddressLimit } from './address-limit.ts'
import { openClientAddress } from './client-address.ts'
import type { Config, limitSettings } from './config.ts'

const WINDOW_SECONDS = 60

type Headers = Record<string, string>

/** The limits of one request, not yet checked. */
export interface OpenAdmission extends Admission {
  readonly isSettled: boolean
  /** Asks the limiter. Refuses `rate_limited`; where the limiter cannot be reached, the request goes on. */
  ask(): Promise<void>
}

export interface RequestLimits {
  /** `show` is given the headers of the answer as soon as they are known. */
  admissionOf(caller: Caller, show: (headers: Headers) => void): OpenAdmission
  /** Counts a request without a valid token. Refuses `rate_limited`. */
  admitStranger(event: LambdaFunctionURLEvent, show: (headers: Headers) => void): Promise<void>
}

interface Options extends Omit<Config<(typeof limitSettings)[number]>, 'originSecretArn'> {
  /** The shared limiter; better soon out of reach than late. It knows what tenants have set for themselves. */
  limiter: { admit: (checks: readonly LimitCheck[]) => Promise<LimitState[]> }
  originSecret: () => Promise<string>
  count: Count
  log: Logger
}

export function openRequestLimits(options: Options): RequestLimits {
  const { limiter, rateLimitUser, rateLimitTenant, rateLimitAddress, originSecret, count, log } = options
  const clientAddress = openClientAddress(originSecret)
  const onUnchecked = (error: unknown): void => {
    count('LimitsUnchecked')
    log.warn('limits were not checked', { error: error as Error })
  }
  const admitAddress = openAddressLimit({
    limiter,
    keyOf: clientAddress.keyOf,
    limit: rateLimitAddress,
    windowSeconds: WINDOW_SECONDS,
    onUnchecked,
  })
  return {
    admissionOf({ companyId, platform, userId }, show) {
      const tenant = { companyId, platform }
      const checks: LimitCheck[] = [
        { kind: 'user', tenant, key: userId, limit: rateLimitUser, windowSeconds: WINDOW_SECONDS },
        { kind: 'tenant', tenant, key: '', limit: rateLimitTenant, windowSeconds: WINDOW_SECONDS },
      ]
      let isSettled = false
      const settle = (states: readonly LimitState[]): void => {
        isSettled = true
        refuse(states, show)
      }
      return {
        checks,
        settle,
        get isSettled() {
          return isSettled
        },
        async ask() {
          const states = await limiter.admit(checks).catch(onUnchecked)
          settle(states ?? [])
        },
      }
    },

    async admitStranger(event, show) {
      refuse([await admitAddress(await clientAddress.networkOf(event))], show)
    },
  }
}

/** The one that says most about what the client may do next: what refuses it, or what is nearest to refusing it. */
function tightest(states: readonly LimitState[]): LimitState | undefined {
  return [...states].sort(
    (a, b) => b.retryAfterSeconds - a.retryAfterSeconds || a.remaining - b.remaining || a.limit - b.limit,
  )[0]
}

/** Shows how the limits stand, and throws `rate_limited` where one does not allow the request. */
function refuse(states: readonly LimitState[], show: (headers: Headers) => void): void {
  const state = tightest(states)
  if (state === undefined) return
  show({
    'x-ratelimit-limit': String(state.limit),
    'x-ratelimit-remaining': String(state.remaining),
    'x-ratelimit-reset': String(state.resetSeconds),
    ...(state.allowed ? {} : { 'retry-after': String(state.retryAfterSeconds) }),
  })
  if (!state.allowed)
    throw new CodedError(
      'rate_limited',
      `At most ${state.limit} requests in ${state.windowSeconds} seconds are allowed for ${whose[state.kind]}.`,
      { details: { limit: state.kind } },
    )
}

const whose = {
  user: 'a user',
  tenant: 'all users of a tenant together',
  address: 'an address without a valid token',
}
