/**
 * A user who is here again after a year. Their sessions stand under a keyed hash by then (docs/rights.md), and only who has the
 * user's id, and the key, knows whose they are: so they are found by the hash, and get their user back. Those that are not
 * used lose it again with the next run of the archiver.
 */
import { pseudonymOf } from '../ageing/pseudonym.ts'
import type { Caller } from '../protocol/callers.ts'
import { CodedError } from '../protocol/errors.ts'
import type { Database } from '../services/database.ts'
import type { ReadSecret } from '../services/secrets.ts'

export interface ReturningServices {
  database: Database
  pseudonymKey: ReadSecret
}

/** In one call, newest first. */
const SESSIONS = 1_000

/** What stood for the caller after a year; null for agents and admins, who find what stands under it. */
export const pseudonymOfCaller = async (pseudonymKey: ReadSecret, caller: Caller): Promise<string | null> =>
  caller.role === 'user' ? pseudonymOf(await pseudonymKey(), caller, caller.userId) : null

/** Gives the caller's sessions back to the caller. Returns how many. */
async function reclaimSessions(
  { database, pseudonymKey }: ReturningServices,
  caller: Caller,
): Promise<number> {
  const pseudonym = await pseudonymOfCaller(pseudonymKey, caller)
  if (pseudonym === null) return 0
  const [row] = await database.callFor<{ reclaim_sessions: number }>(caller, 'reclaim_sessions', [
    { text: caller.userId },
    { text: pseudonym },
    { integer: SESSIONS },
  ])
  return row?.reclaim_sessions ?? 0
}

/** What `work` does with a session or a message, once more where it is not found and sessions came back. */
export async function asReturned<Result>(
  services: ReturningServices,
  caller: Caller,
  work: () => Promise<Result>,
): Promise<Result> {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof CodedError) || error.code !== 'not_found') throw error
    if ((await reclaimSessions(services, caller)) === 0) throw error
    return work()
  }
}
