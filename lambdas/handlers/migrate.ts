/** Applies the schema of this version, as its owner. Invoked at a local start and by each deployment. */
import { fileURLToPath } from 'node:url'
import middy from '@middy/core'
import { migrate, readSqlFiles } from '../migrations/migrate.ts'
import { readConfig } from '../runtime/config.ts'
import { openLogger } from '../runtime/logger.ts'
import { openDatabase } from '../services/database.ts'
import { splitStatements } from '../services/sql-text.ts'

const config = readConfig(['databaseClusterArn', 'databaseOwnerSecretArn', 'databaseName', 'sqlDirectory'])
const log = openLogger('migrate')
const database = openDatabase({ ...config, databaseSecretArn: config.databaseOwnerSecretArn })
const directory = config.sqlDirectory ?? fileURLToPath(new URL('../../sql', import.meta.url))

export const handler = middy<unknown, { applied: string[] }>().handler(async () => {
  const applied = await migrate(database, await readSqlFiles(directory), splitStatements)
  log.info('schema is up to date', { applied })
  return { applied }
})
