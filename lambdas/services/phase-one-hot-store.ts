/**
 * The hot store while the phase is being switched, in either direction: turns are opened in Postgres, and a cache is
 * there that may still hold some. What a session has in Valkey alone comes to Postgres before a turn is opened there;
 * turns that run in Valkey are ended there. Valkey being away harms nothing that was promised: the queue has it, too.
 */
import type { Count } from '../protocol/metrics.ts'
import type { HotStore, LapsedTurn } from './hot-store.ts'
import { notOpened } from './not-opened.ts'
import { openTurnsElsewhere } from './turns-elsewhere.ts'
import { openTwins } from './twin-turns.ts'
import { Unreachable } from './valkey.ts'
import type { LeftTurn } from './valkey-hot-store/sessions.ts'
import type { ValkeyHotStore } from './valkey-hot-store.ts'

interface Stores {
  postgres: HotStore
  valkey: ValkeyHotStore
  count: Count
}

/** A turn in the way, as opening in one store would say it. */
function inTheWay(
  left: readonly LeftTurn[],
  isInTheWay: (turn: LeftTurn) => boolean,
  isRefused: (turn: LeftTurn) => boolean,
): LapsedTurn | undefined {
  const turn = left.filter(isInTheWay).sort((a, b) => b.leaseLeftMs - a.leaseLeftMs)[0]
  if (turn === undefined) return undefined
  if (turn.leaseLeftMs <= 0) return { outcome: 'lapsed', messageId: turn.messageId }
  if (isRefused(turn)) throw notOpened({ code: 'reply_in_progress', message_id: turn.messageId })
  return undefined
}

export function openPhaseOneHotStore({ postgres, valkey, count }: Stores): HotStore {
  /** Turns in Valkey that this instance has taken over. */
  const inValkey = openTurnsElsewhere(postgres, valkey)
  const forgetTwin = openTwins({ valkey, postgres })

  /** What Valkey says, or that it cannot be reached. */
  async function ifReachable<Result>(work: Promise<Result>, otherwise: Result): Promise<Result> {
    try {
      return await work
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error
      count('CacheUnreachable')
      return otherwise
    }
  }

  return {
    leaseSeconds: postgres.leaseSeconds,
    paceMs: postgres.paceMs,

    async openTurn(request) {
      const claimed = await ifReachable(valkey.findClaim(request), undefined)
      if (claimed) return claimed
      if (!request.sessionIsNew) {
        const { tenant, sessionId, threadId, parentMessageId } = request
        const left = await ifReachable(valkey.leave(tenant, { sessionId, threadId }), [])
        const lapsed = inTheWay(
          left,
          ({ messageId }) => parentMessageId === undefined || messageId === parentMessageId,
          () => parentMessageId === undefined,
        )
        if (lapsed) return lapsed
      }
      return postgres.openTurn(request)
    },

    async reopenTurn(request) {
      const { tenant, target } = request
      const left = await ifReachable(valkey.leave(tenant, { messageId: target }), [])
      const lapsed = inTheWay(
        left,
        ({ messageId, questionId }) => messageId === target || questionId === target,
        () => true,
      )
      return lapsed ?? postgres.reopenTurn(request)
    },

    ...inValkey.writing,

    async takeOver(tenant, messageId) {
      const taken = await postgres.takeOver(tenant, messageId)
      if (taken || (await ifReachable(forgetTwin(tenant, messageId), false))) return taken
      const other = await ifReachable(valkey.takeOver(tenant, messageId), undefined)
      if (other) inValkey.add(tenant, messageId)
      return other
    },

    async readLog(tenant, ownedBy, messageId, after) {
      const stores = inValkey.has(tenant, messageId) ? [valkey, postgres] : [postgres, valkey]
      for (const store of stores) {
        const page = await store.readLog(tenant, ownedBy, messageId, after)
        if (page) return page
      }
      return undefined
    },

    // Valkey first: Postgres says of an answer that only its message is left where its turn runs in Valkey.
    requestStop: async (tenant, ownedBy, messageId) =>
      (await ifReachable(valkey.requestStop(tenant, ownedBy, messageId), undefined)) ??
      postgres.requestStop(tenant, ownedBy, messageId),

    async unfinished(watched) {
      const { unfinished, unknown } = await valkey.look(watched)
      return unknown.length === 0 ? unfinished : [...unfinished, ...(await postgres.unfinished(unknown))]
    },

    lapsed: async (limit) => [
      ...(await postgres.lapsed(limit)),
      ...(await ifReachable(valkey.lapsed(limit), [])),
    ],

    async readTurn(tenant, questionId, answerId) {
      await ifReachable(valkey.readTurn(tenant, questionId, answerId), undefined)
      return postgres.readTurn(tenant, questionId, answerId)
    },

    settle: (tenant, of) => ifReachable(valkey.settle(tenant, of), undefined),
    saved: (records) => ifReachable(valkey.saved(records), undefined),
    sessionEnded: (tenant, sessionId, options) =>
      ifReachable(valkey.sessionEnded(tenant, sessionId, options), undefined),
    messageDeleted: (tenant, messageId) => ifReachable(valkey.messageDeleted(tenant, messageId), undefined),
    tenantChanged: (tenant, own) => ifReachable(valkey.tenantChanged(tenant, own), undefined),
    // A cache that cannot be reached has not forgotten anything: whoever erases has to come again.
    sessionErased: (tenant, sessionId, session) => valkey.sessionErased(tenant, sessionId, session),
  }
}
