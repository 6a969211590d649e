/** Whether Postgres answers. Asking wakes a database that sleeps, and keeps one awake that would fall asleep. */
import { setTimeout as sleep } from 'node:timers/promises'
import { ExecuteStatementCommand, RDSDataClient } from '@aws-sdk/client-rds-data'
import type { Environment } from '../environment.ts'

/** Waking takes about 15 s, 30 s and more after a day. */
const WAKING_MS = 60_000
const WAKING_RETRY_MS = 1_000

export interface Answer {
  answeredInMs: number
  bytes: number
}

/** Waits for a database that wakes up. */
export async function askDatabase(
  environment: Environment,
  { clusterArn, secretArn, name }: { clusterArn: string; secretArn: string; name: string },
  abortSignal: AbortSignal,
): Promise<Answer> {
  const client = new RDSDataClient({ ...environment.reach('RDS_DATA') })
  const command = new ExecuteStatementCommand({
    resourceArn: clusterArn,
    secretArn,
    database: name,
    sql: 'select pg_database_size(current_database())',
  })
  const givenUpAt = Date.now() + WAKING_MS
  for (;;) {
    const askedAt = performance.now()
    try {
      const { records = [] } = await client.send(command, { abortSignal })
      const answeredInMs = Math.round(performance.now() - askedAt)
      return { answeredInMs, bytes: records[0]?.[0]?.longValue ?? 0 }
    } catch (error) {
      if ((error as Error).name !== 'DatabaseResumingException' || Date.now() > givenUpAt) throw error
      await sleep(WAKING_RETRY_MS, undefined, { signal: abortSignal })
    }
  }
}
