/** Questions that are saved into conversations of which a part is leaving: what do they wait for? */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import { connect } from '../connect.ts'
import { percentile, rounded } from '../figures.ts'

export interface Delays {
  appends: number
  /** Of one append, in milliseconds: the work itself and a machine that is busy are in it. */
  p50Ms: number
  p99Ms: number
  maxMs: number
  /** The longest that one was seen waiting for a lock. */
  longestLockMs: number
}

const CLIENTS = 4
/** Between two appends of a client: some 200 a second together. */
const PAUSE_MS = 20
/** Between two looks at the locks. */
const LOOK_MS = 1

/** Appends to these sessions until it is told to stop. */
export async function appendTo(url: string, companyId: string, sessions: readonly string[]) {
  const stop = new AbortController()
  const times: number[] = []
  let longestLockMs = 0
  const append = async (client: pg.Client, first: number): Promise<void> => {
    for (let count = first; !stop.signal.aborted; count += CLIENTS) {
      const calledAt = performance.now()
      await client.query('select * from turnkeep.save_records($1)', [
        JSON.stringify([recordFor(companyId, sessions[count % sessions.length] ?? '')]),
      ])
      times.push(performance.now() - calledAt)
      await sleep(PAUSE_MS)
    }
    await client.end()
  }
  const look = async (client: pg.Client): Promise<void> => {
    while (!stop.signal.aborted) {
      const { rows } = await client.query<{ ms: number | null }>(
        `select extract(epoch from max(clock_timestamp() - waitstart))::float8 * 1000 as ms from pg_locks where not granted`,
      )
      longestLockMs = Math.max(longestLockMs, rows[0]?.ms ?? 0)
      await sleep(LOOK_MS)
    }
    await client.end()
  }
  const working = [look(await connect(url))]
  for (let client = 0; client < CLIENTS; client += 1)
    working.push(append(await connect(url, companyId), client))
  return async (): Promise<Delays> => {
    stop.abort()
    await Promise.all(working)
    const at = (share: number) => rounded(percentile(times, share), 1)
    return {
      appends: times.length,
      p50Ms: at(0.5),
      p99Ms: at(0.99),
      maxMs: at(1),
      longestLockMs: rounded(longestLockMs, 1),
    }
  }
}

const recordFor = (companyId: string, sessionId: string) => ({
  company_id: companyId,
  platform: 'web',
  id: randomUUID(),
  session_id: sessionId,
  thread_id: 'main',
  role: 'user',
  content: 'a question that is asked meanwhile',
  content_key: null,
  status: 'complete',
  token_count: 8,
  response_time_ms: null,
  model: null,
  sources: [],
  metadata: {},
  parent_message_id: null,
  sequence_number: 100_000,
  created_at: new Date().toISOString(),
  user_id: 'bench',
})
