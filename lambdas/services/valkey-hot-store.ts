/**
 * The hot store of phase 2: Valkey, one round trip an operation. It knows the sessions that are in use; of one that it
 * does not know it asks Postgres, the source. Nothing that was promised stands here alone: the queue has it, too, since
 * a cache may forget. A turn that it has forgotten is `unavailable` to its writer, who goes on without the log.
 */
import type { Tenant } from '../protocol/callers.ts'
import type { Count } from '../protocol/metrics.ts'
import type { ClaimedTurn, HotStore, TurnRequest, WatchedTurn } from './hot-store.ts'
import type { SessionSource } from './postgres-session-source.ts'
import type { Valkey } from './valkey.ts'
import { type BudgetingTimes, openBudgeting } from './valkey-hot-store/budgets.ts'
import { findClaim } from './valkey-hot-store/claims.ts'
import { sessionErased } from './valkey-hot-store/erasing.ts'
import type { Means } from './valkey-hot-store/means.ts'
import type { Place } from './valkey-hot-store/names.ts'
import { openTurn, reopenTurn } from './valkey-hot-store/opening.ts'
import { openPlaces } from './valkey-hot-store/places.ts'
import { type Looked, lapsed, look, readLog, requestStop } from './valkey-hot-store/reading.ts'
import {
  type LeftTurn,
  leave,
  messageDeleted,
  saved,
  sessionEnded,
  settle,
} from './valkey-hot-store/sessions.ts'
import { keepSettings, openSettings, type SettingsOf } from './valkey-hot-store/settings.ts'
import { forgetEmpty, isEmpty } from './valkey-hot-store/twins.ts'
import { append, close, finish, takeOver } from './valkey-hot-store/writing.ts'

export interface ValkeyHotStoreOptions {
  leaseSeconds: number
  historyMessages: number
  /** Absent: it remembers for itself. */
  settingsOf?: SettingsOf
  budgeting?: BudgetingTimes
  count?: Count
}

/** What a store beside this one asks of it, too. */
export interface ValkeyHotStore extends HotStore {
  /** The turn that a request's key names here, if it names one. Claims nothing. */
  findClaim(request: TurnRequest): Promise<ClaimedTurn | undefined>
  /**
   * Before a turn of this thread is opened elsewhere: settles the session, and forgets what would be old afterwards.
   * Returns the turns of the thread that run here.
   */
  leave(tenant: Tenant, of: Place | { messageId: string }): Promise<LeftTurn[]>
  /** Whether a turn runs here and has nothing of its answer yet. */
  isEmpty(tenant: Tenant, messageId: string): Promise<boolean>
  /** A turn that is written elsewhere; one that has something of its answer here is left alone. */
  forgetEmpty(tenant: Tenant, messageId: string): Promise<boolean>
  /** As `unfinished`, with those that are not known here. */
  look(watched: readonly WatchedTurn[]): Promise<Looked>
}

export function openValkeyHotStore(
  valkey: Valkey,
  source: SessionSource,
  options: ValkeyHotStoreOptions,
): ValkeyHotStore {
  const { leaseSeconds, historyMessages, count = () => undefined } = options
  const settingsOf = options.settingsOf ?? openSettings(valkey, source)
  const means: Means = {
    valkey,
    source,
    places: openPlaces(valkey, source),
    settingsOf,
    budgeting: openBudgeting({ valkey, source, settingsOf, count }, options.budgeting),
    leaseMs: Math.round(leaseSeconds * 1_000),
    historyMessages,
    count,
  }
  return {
    leaseSeconds,
    paceMs: 0,
    openTurn: (request) => openTurn(means, request),
    reopenTurn: (request) => reopenTurn(means, request),
    findClaim: (request) => findClaim(means, request),
    append: (lease, batches) => append(means, lease, batches),
    close: (lease, batches, answer) => close(means, lease, batches, answer),
    finish: (lease, terminal) => finish(means, lease, terminal),
    takeOver: (tenant, messageId) => takeOver(means, tenant, messageId),
    readLog: (tenant, ownedBy, messageId, after) => readLog(means, tenant, ownedBy, messageId, after),
    requestStop: (tenant, ownedBy, messageId) => requestStop(means, tenant, ownedBy, messageId),
    isEmpty: (tenant, messageId) => isEmpty(means, tenant, messageId),
    forgetEmpty: (tenant, messageId) => forgetEmpty(means, tenant, messageId),
    look: (watched) => look(means, watched),
    unfinished: async (watched) => (await look(means, watched)).unfinished,
    lapsed: (limit) => lapsed(means, limit),
    /** Its messages are Postgres's to read, once they are there. */
    async readTurn(tenant, questionId, answerId) {
      await settle(means, tenant, { messageId: questionId })
      await settle(means, tenant, { messageId: answerId })
      return undefined
    },
    settle: (tenant, of) => settle(means, tenant, of),
    leave: (tenant, of) => leave(means, tenant, of),
    saved: (records) => saved(means, records),
    sessionEnded: (tenant, sessionId, options) => sessionEnded(means, tenant, sessionId, options),
    messageDeleted: (tenant, messageId) => messageDeleted(means, tenant, messageId),
    tenantChanged: (tenant, own) => keepSettings(valkey, tenant, own),
    sessionErased: (tenant, sessionId, session) => sessionErased(means, tenant, sessionId, session),
  }
}
