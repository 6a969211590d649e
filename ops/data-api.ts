/** Operations of Postgres, for commands that ask for some. */
import { setTimeout as sleep } from 'node:timers/promises'
import { ExecuteStatementCommand, RDSDataClient } from '@aws-sdk/client-rds-data'
import type { Environment } from './environment.ts'

/** A type of Postgres, and the value as text; null: none. */
export type Argument = [type: string, value: string | null]

/** Waking takes about 15 s, 30 s and more after a day. */
const WAKING_MS = 60_000
const WAKING_RETRY_MS = 1_000

/** Calls `turnkeep.<operation>` as the functions do, and returns its rows; a database that sleeps is woken and waited for. */
export function openDataApi(environment: Environment, abortSignal: AbortSignal) {
  const { DATABASE_CLUSTER_ARN, DATABASE_SECRET_ARN, DATABASE_NAME } = environment.values
  const client = new RDSDataClient({ ...environment.reach('RDS_DATA') })

  return async function call<Row>(operation: string, args: readonly Argument[]): Promise<Row[]> {
    const command = new ExecuteStatementCommand({
      resourceArn: DATABASE_CLUSTER_ARN,
      secretArn: DATABASE_SECRET_ARN,
      database: DATABASE_NAME,
      sql: `select * from turnkeep.${operation}(${args.map(([type], index) => `:p${index}::${type}`).join()})`,
      parameters: args.map(([, value], index) => ({
        name: `p${index}`,
        value: value === null ? { isNull: true } : { stringValue: value },
      })),
      formatRecordsAs: 'JSON',
    })
    const givenUpAt = Date.now() + WAKING_MS
    for (;;) {
      try {
        const { formattedRecords } = await client.send(command, { abortSignal })
        return JSON.parse(formattedRecords ?? '[]')
      } catch (error) {
        if ((error as Error).name !== 'DatabaseResumingException' || Date.now() > givenUpAt) throw error
        await sleep(WAKING_RETRY_MS, undefined, { signal: abortSignal })
      }
    }
  }
}
