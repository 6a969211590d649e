/** Before all tests: one real Postgres server for the run. Each test file makes databases of its own on it. */
import { openTable } from '../drills/table.ts'
import { dropMigratedTemplates } from './migrated.ts'
import { SHARED_SERVER, startPostgresServer } from './postgres-server.ts'

export default async function setup(): Promise<() => Promise<void>> {
  const printTable = openTable()
  const server = await startPostgresServer()
  process.env[SHARED_SERVER] = server.url
  return async () => {
    printTable()
    await dropMigratedTemplates(server.url)
    await server.close()
  }
}
