/** Idempotency keys: each names one turn of its caller, here for a day and in Postgres for ever. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Tenant } from '../../protocol/callers.ts'
import { CodedError } from '../../protocol/errors.ts'
import type { ClaimedTurn, TurnRequest } from '../hot-store.ts'
import type { Claim } from '../postgres-session-source.ts'
import { inTime } from './in-time.ts'
import { mark } from './marks.ts'
import type { Means } from './means.ts'
import { claimKey, keysOf } from './names.ts'
import * as scripts from './scripts/claims.ts'

/** Whoever has claimed a key opens its turn within this, or not at all. */
const OPEN_WITHIN_MS = 5_000
/** After this a claim without a turn is nobody's. */
const ABANDONED_MS = 10_000
/** A claim is looked at again while its turn is being opened. */
const LOOK_MS = 25
const PATIENCE_MS = 2_000
/** Postgres may sleep; a key that it could not be asked about in time is taken for new. */
const SAVED_PATIENCE_MS = 1_000
const DAY_MS = 86_400_000
const HOUR_MS = 3_600_000

type Idempotency = NonNullable<TurnRequest['idempotency']>

/** A key that is the caller's to use. */
export interface HeldKey {
  /** The server's time by which the turn must be open. */
  deadline: number
  /** For a turn that was not opened. The key may be used again; where that fails, after a while. */
  release(): Promise<void>
}

const toClaimed = (claim: Claim, bodyHash: string): ClaimedTurn => ({
  outcome: 'claimed',
  bodyMatches: claim.bodyHash === bodyHash,
  sessionId: claim.sessionId,
  userMessageId: claim.userMessageId,
  messageId: claim.messageId,
})

/**
 * Whether a key may have been used before the day that the cache remembers. A UUID of version 7, as the page makes them,
 * says when it was made; any other may be of any age.
 */
function mayBeOld(key: string): boolean {
  if (!/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/i.test(key)) return true
  const age = Date.now() - Number.parseInt(key.slice(0, 8) + key.slice(9, 13), 16)
  // A clock that is wrong by hours does not count.
  return age < -HOUR_MS || age > DAY_MS - HOUR_MS
}

/**
 * Whether the turn of a claim of this key was opened. Whoever opened it may have died before it had written down where it
 * lies, and then nobody would find it: the same request knows.
 */
async function isOpen(
  { valkey }: Pick<Means, 'valkey'>,
  { tenant, threadId, idempotency }: TurnRequest,
  { sessionId, messageId, userMessageId: questionId, bodyHash }: Claim,
): Promise<boolean> {
  const place = { sessionId, threadId }
  if ((await valkey.command('EXISTS', keysOf(tenant, place).turn(messageId))) !== 1) return false
  if (idempotency?.bodyHash === bodyHash)
    await valkey.pipeline(mark({ tenant, place, messageId, questionId }))
  return true
}

async function savedClaim(
  { source, count }: Pick<Means, 'source' | 'count'>,
  tenant: Tenant,
  { caller, key }: Idempotency,
): Promise<Claim | undefined> {
  try {
    return await inTime(SAVED_PATIENCE_MS, source.findClaim(tenant, caller, key))
  } catch {
    // A retry comes within a day, and of that the cache knows. Without Postgres the chat goes on.
    count('IdempotencyUnchecked')
    return undefined
  }
}

/**
 * The turn that the key names already, or the key, held: nobody else opens a turn of that name meanwhile. Waits a moment
 * for another's turn that is just being opened, then refuses as `unavailable`.
 */
export async function claim(
  means: Pick<Means, 'valkey' | 'source' | 'count'>,
  request: TurnRequest,
  idempotency: Idempotency,
): Promise<ClaimedTurn | HeldKey> {
  const { valkey } = means
  const { tenant, sessionId, question, messageId } = request
  const { caller, key, bodyHash } = idempotency
  const name = claimKey(tenant, caller, key)
  const mine: Claim = { bodyHash, sessionId, userMessageId: question.id, messageId }
  const text = JSON.stringify(mine)
  const release = (standing: string) => valkey.run(scripts.release, [name], [standing])
  const givenUpAt = Date.now() + PATIENCE_MS
  while (Date.now() < givenUpAt) {
    const [standing, age, now] = await valkey.run<[string, number, string]>(scripts.claim, [name], [text])
    if (standing === text) {
      const older = mayBeOld(key) ? await savedClaim(means, tenant, idempotency) : undefined
      if (older === undefined)
        return {
          deadline: Number(now) + OPEN_WITHIN_MS,
          release: async () => {
            await release(text).catch(() => undefined)
          },
        }
      await release(text)
      return toClaimed(older, bodyHash)
    }
    const other: Claim = JSON.parse(standing)
    if (await isOpen(means, request, other)) return toClaimed(other, bodyHash)
    if (age > ABANDONED_MS) {
      // The cache may have forgotten the turn, and not the claim.
      const older = await savedClaim(means, tenant, idempotency)
      if (older) return toClaimed(older, bodyHash)
      await release(standing)
    } else await sleep(LOOK_MS)
  }
  throw new CodedError('unavailable', 'The turn that this Idempotency-Key names is being opened.')
}

/** The turn that a request's key names here, if it names one that was opened. Claims nothing. */
export async function findClaim(
  means: Pick<Means, 'valkey'>,
  request: TurnRequest,
): Promise<ClaimedTurn | undefined> {
  const { tenant, idempotency } = request
  if (idempotency === undefined) return undefined
  const { caller, key, bodyHash } = idempotency
  const text = await means.valkey.command<string | null>('GET', claimKey(tenant, caller, key))
  if (text === null) return undefined
  const standing: Claim = JSON.parse(text)
  return (await isOpen(means, request, standing)) ? toClaimed(standing, bodyHash) : undefined
}
