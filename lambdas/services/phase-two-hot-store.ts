/**
 * The hot store as phase 2 has it: Valkey for turns, and Postgres where Valkey cannot be reached or does not know a
 * turn, since it was opened there in phase 1 or while Valkey was away. An answer stays in the store that it began in.
 */
import type { Tenant } from '../protocol/callers.ts'
import { CodedError } from '../protocol/errors.ts'
import type { Admission } from '../protocol/limits.ts'
import type { Count } from '../protocol/metrics.ts'
import type { HotStore } from './hot-store.ts'
import type { Limiter } from './limiter.ts'
import { openTurnsElsewhere } from './turns-elsewhere.ts'
import { openTwins } from './twin-turns.ts'
import { Unreachable } from './valkey.ts'
import type { ValkeyHotStore } from './valkey-hot-store.ts'

interface Stores {
  valkey: ValkeyHotStore
  postgres: HotStore
  limiter: Limiter
  count: Count
}

interface Opening {
  tenant: Tenant
  messageId: string
  admission?: Admission
}

export function openPhaseTwoHotStore({ valkey, postgres, limiter, count }: Stores): HotStore {
  /** Turns that this instance has opened or taken over in Postgres. */
  const inPostgres = openTurnsElsewhere(valkey, postgres)
  const forgetTwin = openTwins({ valkey, postgres })

  /** Requests that were let through and come again, because a turn was in their way. */
  const admitted = new WeakSet<Admission>()
  /** Before the turn is opened; a limiter that cannot be reached lets everybody through. */
  async function admit(admission: Admission | undefined): Promise<void> {
    if (admission === undefined || admitted.has(admission)) return
    const states = await limiter.admit(admission.checks).catch(() => {
      count('LimitsUnchecked')
      return []
    })
    admitted.add(admission)
    admission.settle(states)
  }

  /** Refused for a turn that had only a twin here, which is forgotten now. */
  const isInTheWayOfNobody = async (tenant: Tenant, error: unknown): Promise<boolean> => {
    if (!(error instanceof CodedError) || error.code !== 'reply_in_progress') return false
    const { messageId } = (error.details ?? {}) as { messageId?: unknown }
    return typeof messageId === 'string' && forgetTwin(tenant, messageId).catch(() => false)
  }

  /** Opens in Valkey, or in Postgres where Valkey cannot be reached. */
  async function open<Request extends Opening, Result extends { outcome: string }>(
    { admission, ...request }: Request,
    ask: (store: HotStore, request: Omit<Request, 'admission'>) => Promise<Result>,
  ): Promise<Result> {
    await admit(admission)
    const { tenant, messageId } = request
    try {
      return await ask(valkey, request)
    } catch (error) {
      if (await isInTheWayOfNobody(tenant, error)) return ask(valkey, request)
      if (!(error instanceof Unreachable)) throw error
      count('CacheUnreachable')
      const turn = await ask(postgres, request)
      if (turn.outcome === 'opened') inPostgres.add(tenant, messageId)
      return turn
    }
  }

  /** The first store that knows. Throws where none does and one of them could not be asked. */
  async function either<Result>(
    ask: (store: HotStore) => Promise<Result | undefined>,
  ): Promise<Result | undefined> {
    let unreachable: unknown
    try {
      const found = await ask(valkey)
      if (found !== undefined) return found
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error
      unreachable = error
    }
    const found = await ask(postgres)
    if (found === undefined && unreachable !== undefined) throw unreachable
    return found
  }

  /** What stands in Valkey alone is in the queue, too: without Valkey it comes from there. */
  const ifReachable = (error: unknown): void => {
    if (!(error instanceof Unreachable)) throw error
    count('CacheUnreachable')
  }

  return {
    leaseSeconds: valkey.leaseSeconds,
    paceMs: valkey.paceMs,

    openTurn: (request) => open(request, (store, turn) => store.openTurn(turn)),
    reopenTurn: (request) => open(request, (store, turn) => store.reopenTurn(turn)),
    ...inPostgres.writing,
    async finish(lease, terminal) {
      const { tenant, messageId } = lease
      const mayHaveTwin = inPostgres.has(tenant, messageId)
      const finished = await inPostgres.writing.finish(lease, terminal)
      // Or the next question would have to wait for it.
      if (mayHaveTwin) await forgetTwin(tenant, messageId).catch(() => false)
      return finished
    },

    async takeOver(tenant, messageId) {
      const taken = (await forgetTwin(tenant, messageId))
        ? undefined
        : await valkey.takeOver(tenant, messageId)
      if (taken) return taken
      const { unknown } = await valkey.look([{ ...tenant, messageId }])
      if (unknown.length === 0) return undefined
      const turn = await postgres.takeOver(tenant, messageId)
      if (turn) inPostgres.add(tenant, messageId)
      return turn
    },

    async readLog(tenant, ownedBy, messageId, after) {
      if (inPostgres.has(tenant, messageId)) return postgres.readLog(tenant, ownedBy, messageId, after)
      const read = () => either((store) => store.readLog(tenant, ownedBy, messageId, after))
      const page = await read()
      if (page === undefined || page.finished || page.events.length > 0) return page
      // Nothing yet, or never.
      return (await forgetTwin(tenant, messageId).catch(() => false)) ? read() : page
    },
    async requestStop(tenant, ownedBy, messageId) {
      await forgetTwin(tenant, messageId).catch(() => false)
      return either((store) => store.requestStop(tenant, ownedBy, messageId))
    },

    async unfinished(watched) {
      const { unfinished, unknown } = await valkey.look(watched)
      const here: typeof unfinished = []
      for (const turn of unfinished)
        if (await forgetTwin(turn, turn.messageId)) unknown.push(turn)
        else here.push(turn)
      return unknown.length === 0 ? here : [...here, ...(await postgres.unfinished(unknown))]
    },

    async lapsed(limit) {
      const found = await Promise.allSettled([valkey.lapsed(limit), postgres.lapsed(limit)])
      const [first, second] = found
      if (first.status === 'rejected' && second.status === 'rejected') throw first.reason
      return found.flatMap((result) => (result.status === 'fulfilled' ? result.value : []))
    },

    readTurn: (tenant, questionId, answerId) =>
      either((store) => store.readTurn(tenant, questionId, answerId)),

    settle: (tenant, of) => valkey.settle(tenant, of).catch(ifReachable),
    saved: (records) => valkey.saved(records).catch(ifReachable),
    sessionEnded: (tenant, sessionId, options) => valkey.sessionEnded(tenant, sessionId, options),
    messageDeleted: (tenant, messageId) => valkey.messageDeleted(tenant, messageId),
    tenantChanged: (tenant, own) => valkey.tenantChanged(tenant, own).catch(ifReachable),
    sessionErased: (tenant, sessionId, session) => valkey.sessionErased(tenant, sessionId, session),
  }
}
