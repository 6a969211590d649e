/** A migrated database behind the Data API, for tests of SQL: embedded, and on the real server of this run. */
import { describe } from 'vitest'
import { migrate, readSqlFiles } from '../../lambdas/migrations/migrate.ts'
import { type Database, openDatabase } from '../../lambdas/services/database.ts'
import * as sqlText from '../../lambdas/services/sql-text.ts'
import { startDataApi } from '../../local/cloud/data-api.ts'
import { startPostgres } from '../../local/cloud/postgres.ts'
import { loginSecrets } from './login-secrets.ts'
import { migratedDump, migratedTemplate, SQL } from './migrated.ts'
import { createDatabase, type PostgresServer, startPostgresServer } from './postgres-server.ts'

export type Engine = 'embedded' | 'real'

export interface TestDatabase {
  /** As the functions are: a role that owns nothing. */
  app: Database
  owner: Database
  /** Runs SQL as the owner with the tenant set; a select returns its rows. */
  inTenant<Row = Record<string, unknown>>(companyId: string, sql: string): Promise<Row[]>
  /** Of the real one, for other clients; '' of the embedded one. */
  url: string
  migrate(): Promise<string[]>
  close(): Promise<void>
}

const ARN = 'arn:aws:secretsmanager:us-east-1:000000000000:secret:turnkeep'

export interface NewTestDatabase {
  /** Every migration is applied to this very one, instead of copying one that has them all. */
  empty?: boolean
  /** In place of the one that serves the whole run; it is closed with the database. */
  server?: PostgresServer
}

export async function startTestDatabase(
  engine: Engine,
  name: string,
  { empty = false, server: ownServer }: NewTestDatabase = {},
): Promise<TestDatabase> {
  const server = engine === 'real' ? (ownServer ?? (await startPostgresServer())) : undefined
  const template = empty || !server ? undefined : await migratedTemplate(server.url)
  const url = server ? await createDatabase(server.url, name, { template }) : ''
  const beginWith = empty || server ? undefined : await migratedDump()
  const postgres = await startPostgres(url ? { databaseUrl: url } : { beginWith })
  const dataApi = await startDataApi({ postgres, secretOf: loginSecrets(postgres) })
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
  const run = async () => migrate(owner, await readSqlFiles(SQL), sqlText)
  await run()
  await owner.execute(IN_TENANT)
  const app = open('app')
  await app.execute('select 1') // The client looks up its endpoint now, before another database changes it.
  return {
    app,
    owner,
    inTenant: async <Row>(companyId: string, sql: string) => {
      const rows = await owner.execute<{ row: string }>('select public.in_tenant(:company, :sql) as row', {
        company: companyId,
        sql,
      })
      return rows.map(({ row }) => JSON.parse(row) as Row)
    },
    url,
    migrate: run,
    close: async () => {
      await dataApi.close()
      await postgres.close()
      await server?.close()
    },
  }
}

/** The tenant must be set before the statement is planned to run, and one call is one statement: hence a function. */
const IN_TENANT = `
  create or replace function public.in_tenant(p_company_id text, p_sql text) returns setof jsonb language plpgsql as $$
  begin
    perform turnkeep.set_tenant(p_company_id, 'web');
    if p_sql ~* '^\\s*select' then
      return query execute format('select to_jsonb(q) from (%s) q', p_sql);
    else
      execute p_sql;
    end if;
  end $$`

/** The same tests on both engines. */
export const onBothEngines = (title: string, tests: (engine: Engine) => void): void =>
  describe.each<Engine>(['embedded', 'real'])(`${title} (%s Postgres)`, tests)
