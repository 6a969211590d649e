/** Opens turns: of new questions, and again of those that are there. */
import type { Actor, Tenant } from '../../protocol/callers.ts'
import type { OnSave } from '../../protocol/queue.ts'
import type {
  Archived,
  ClaimedTurn,
  LapsedTurn,
  OpenedTurn,
  RegenerateRequest,
  TurnRequest,
} from '../hot-store.ts'
import { notOpened } from '../not-opened.ts'
import { Unreachable } from '../valkey.ts'
import { type OpenedFromHere, open } from './attempts.ts'
import type { Spender } from './budgets.ts'
import { claim } from './claims.ts'
import { kept } from './loading.ts'
import type { Means } from './means.ts'
import { keysOf, type Place } from './names.ts'
import * as scripts from './scripts/opening.ts'
import { owned, packBody, readEntry, skipOf } from './values.ts'

/** Users may act on their own only; what others do in their sessions is recorded. */
const auditOf = (asker: Actor | undefined, action: string): Pick<OnSave, 'audit'> =>
  asker === undefined || asker.role === 'user'
    ? {}
    : { audit: { user_id: asker.userId, role: asker.role, action } }

/** The owner of a session that need not be here; where it is nowhere, of the one that will be made. */
async function ownerOf(
  { valkey, source }: Pick<Means, 'valkey' | 'source'>,
  { tenant, place, ownedBy, owner }: { tenant: Tenant; place: Place; ownedBy: string | null; owner: string },
): Promise<string> {
  // Another user's is refused by the opening.
  if (ownedBy !== null) return ownedBy
  const known = await valkey.command<string | null>('HGET', keysOf(tenant, place).session, ['user'])
  if (known !== null) return decodeURIComponent(known)
  const looking = { ...place, ownedBy, from: null, named: false, make: undefined, count: 0 }
  const found = await source.load(tenant, looking)
  return found.outcome === 'loaded' ? found.userId : owner
}

/** Of the question that the target is, or answers; 0 where it is nowhere. */
async function tokensOfQuestion(
  { valkey, source }: Pick<Means, 'valkey' | 'source'>,
  { tenant, place, target }: { tenant: Tenant; place: Place; target: string },
): Promise<number> {
  const find = async (id: string) => {
    const entry = await valkey.command<Buffer | null>('HGET', keysOf(tenant, place).history, [id], {
      bytes: true,
    })
    if (entry !== null) return readEntry(place.sessionId, entry)
    const message = await source.findMessage(tenant, id)
    // It is brought back before the turn is opened, and then this is asked again.
    return message !== undefined && 'outcome' in message ? undefined : message
  }
  const found = await find(target)
  const parent = found?.role === 'assistant' ? found.parent_message_id : null
  return (parent === null ? found : await find(parent))?.token_count ?? 0
}

/** Holds tokens for the turn that is opened, and for no other. */
async function withinBudgets(
  means: Pick<Means, 'budgeting'>,
  spender: Spender,
  opening: () => Promise<OpenedFromHere | LapsedTurn | Archived>,
): Promise<OpenedFromHere | LapsedTurn | Archived> {
  const reservation = await means.budgeting.reserve(spender)
  try {
    const turn = await opening()
    if (turn.outcome === 'opened') reservation.raise(turn.history)
    else reservation.giveBack()
    return turn
  } catch (error) {
    reservation.giveBack()
    throw error
  }
}

/** What saving the question has to do, beside counting it. */
function questionOnSave({ title, channel, idempotency, messageId, asker }: TurnRequest): OnSave {
  return {
    count: true,
    title,
    ...(channel !== null && { channel }),
    ...(idempotency && {
      claim: {
        caller: idempotency.caller,
        key: idempotency.key,
        body_hash: idempotency.bodyHash,
        message_id: messageId,
      },
    }),
    ...auditOf(asker, 'question.asked'),
  }
}

/** As scripts read it: the newest answer, none, or this one. */
const parentOf = ({ parentMessageId }: TurnRequest): string => {
  if (parentMessageId === undefined) return 'newest'
  return parentMessageId === null ? '-' : `=${parentMessageId}`
}

async function openQuestion(
  means: Means,
  request: TurnRequest,
  deadline: number,
): Promise<OpenedTurn | LapsedTurn | Archived> {
  const { tenant, sessionId, threadId, messageId, ownedBy, owner, channel, title, parentMessageId } = request
  const place = { sessionId, threadId }
  const keys = keysOf(tenant, place)
  const question = { ...request.question, on_save: questionOnSave(request) }
  const make = { owner, channel, title }
  const onSave: OnSave = { count: true }
  const spender: Spender = {
    tenant,
    messageId,
    spending: request.spending,
    owner: async () => (request.sessionIsNew ? owner : ownerOf(means, { tenant, place, ownedBy, owner })),
    questionTokens: async () => question.token_count ?? 0,
  }
  const turn = await withinBudgets(means, spender, () =>
    open(means, {
      tenant,
      place,
      messageId,
      questionId: question.id,
      wanted: {
        ownedBy,
        make,
        from: parentMessageId ?? null,
        named: parentMessageId !== undefined,
        withoutArchived: request.withoutArchived,
      },
      onSave,
      call: (count, final) => ({
        script: scripts.open,
        keys: [keys.session, keys.history, keys.order, keys.running, keys.unsaved, keys.turn(messageId)],
        args: [
          messageId,
          question.id,
          owned(ownedBy),
          parentOf(request),
          means.leaseMs,
          count,
          kept(count),
          deadline,
          request.sessionIsNew ? encodeURIComponent(owner) : '',
          final ? '1' : '0',
          skipOf(question),
          packBody(question),
          JSON.stringify(onSave),
        ],
        bytes: true,
      }),
    }),
  )
  // Beside the answer, so that the session can be read at once. Where that fails, saving makes it. It may be late.
  if (turn.outcome === 'opened' && turn.created && request.sessionIsNew)
    means.source
      .load(tenant, {
        ...place,
        ownedBy: null,
        from: null,
        named: false,
        make: { ...make, opened_at: turn.openedAt },
        count: 0,
      })
      .catch(() => undefined)
  return turn
}

/**
 * As HotStore says; a new session is opened without Postgres. Throws Unreachable where Valkey is, and then it may not be
 * known whether the turn was opened: its key stays claimed.
 */
export async function openTurn(
  means: Means,
  request: TurnRequest,
): Promise<OpenedTurn | ClaimedTurn | LapsedTurn | Archived> {
  if (request.idempotency === undefined) return openQuestion(means, request, 0)
  const claimed = await claim(means, request, request.idempotency)
  if ('outcome' in claimed) return claimed
  try {
    const turn = await openQuestion(means, request, claimed.deadline)
    if (turn.outcome !== 'opened') await claimed.release()
    return turn
  } catch (error) {
    // Where it is not known whether the turn was opened, the turn itself will tell.
    if (!(error instanceof Unreachable && error.mayHaveRun)) await claimed.release()
    throw error
  }
}

/** As HotStore says; a message of which nobody has heard is `not_found`, and Postgres is asked before. */
export async function reopenTurn(
  means: Means,
  { tenant, spending, ownedBy, asker, target, messageId, withoutArchived }: RegenerateRequest,
): Promise<OpenedTurn | LapsedTurn | Archived> {
  const what = 'message'
  const place = await means.places.findAnywhere(tenant, target)
  if (place === undefined) throw notOpened({ code: 'not_found', what })
  if ('outcome' in place) return place
  const keys = keysOf(tenant, place)
  const onSave: OnSave = { count: true, ...auditOf(asker, 'answer.regenerated') }
  const spender: Spender = {
    tenant,
    messageId,
    spending,
    owner: () => ownerOf(means, { tenant, place, ownedBy, owner: '' }),
    questionTokens: () => tokensOfQuestion(means, { tenant, place, target }),
  }
  return withinBudgets(means, spender, () =>
    open(means, {
      tenant,
      place,
      messageId,
      wanted: { ownedBy, make: undefined, from: target, named: true, withoutArchived },
      what,
      onSave,
      call: (count, final) => ({
        script: scripts.reopen,
        keys: [keys.session, keys.history, keys.order, keys.running, keys.turn(messageId)],
        args: [
          messageId,
          target,
          owned(ownedBy),
          means.leaseMs,
          count,
          final ? '1' : '0',
          JSON.stringify(onSave),
        ],
        bytes: true,
      }),
    }),
  )
}
