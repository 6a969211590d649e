/** A migrated database behind the Data API, for tests of SQL: embedded, and on the real server of this run. */
import { resolve } from 'node:path'
import { describe } from 'vitest'
import { migrate, readSqlFiles } from '../../lambdas/migrations/migrate.ts'
import { type Database, openDatabase } from '../../lambdas/services/database.ts'
import { splitStatements } from '../../lambdas/services/sql-text.ts'
import { startDataApi } from '../../local/cloud/data-api.ts'
import { startPostgres } from '../../local/cloud/postgres.ts'
import { createDatabase, startPostgresServer } from './postgres-server.ts'

export type Engine = 'embedded' | 'real'

export interface TestDatabase {
  /** As the functions are: a role that owns nothing. */
  app: Database
  owner: Database
  migrate(): Promise<string[]>
  close(): Promise<void>
}

const SQL = resolve(import.meta.dirname, '../../sql')
const ARN = 'arn:aws:secretsmanager:us-east-1:000000000000:secret:turnkeep'

export async function startTestDatabase(engine: Engine, name: string): Promise<TestDatabase> {
  const server = engine === 'real' ? await startPostgresServer() : undefined
  const postgres = await startPostgres(server ? { databaseUrl: await createDatabase(server.url, name) } : {})
  const dataApi = await startDataApi({ postgres })
  Object.assign(process.env, {
    AWS_REGION: 'us-east-1',
    AWS_ACCESS_KEY_ID: 'test',
    AWS_SECRET_ACCESS_KEY: 'test',
    AWS_ENDPOINT_URL_RDS_DATA: dataApi.url,
  })
  const open = (role: 'app' | 'owner') =>
    openDatabase({
      databaseClusterArn: 'arn:aws:rds:us-east-1:000000000000:cluster:turnkeep',
      databaseSecretArn: `${ARN}-${role}`,
      databaseName: 'turnkeep',
    })
  const owner = open('owner')
  const run = async () => migrate(owner, await readSqlFiles(SQL), splitStatements)
  await run()
  const app = open('app')
  await app.execute('select 1') // The client looks up its endpoint now, before another database changes it.
  return {
    app,
    owner,
    migrate: run,
    close: async () => {
      await dataApi.close()
      await postgres.close()
      await server?.close()
    },
  }
}

/** The same tests on both engines. */
export const onBothEngines = (title: string, tests: (engine: Engine) => void): void =>
  describe.each<Engine>(['embedded', 'real'])(`${title} (%s Postgres)`, tests)
