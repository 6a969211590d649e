/**
 * Applies the schema of this version, as its owner, and gives the functions' login its password. Invoked at a local
 * start and by each deployment; may be invoked again at any time, which mends a login that is refused.
 */
import { fileURLToPath } from 'node:url'
import middy from '@middy/core'
import { setLogin } from '../logins/set-login.ts'
import { migrate, readSqlFiles } from '../migrations/migrate.ts'
import { databaseSettings, readConfig } from '../runtime/config.ts'
import { openLogger } from '../runtime/logger.ts'
import { openMetrics } from '../runtime/metrics.ts'
import { openDatabase } from '../services/database.ts'
import { openVersionedSecret } from '../services/secrets.ts'
import * as sqlText from '../services/sql-text.ts'

const config = readConfig([...databaseSettings, 'databaseOwnerSecretArn', 'metricsNamespace', 'sqlDirectory'])
const log = openLogger('migrate')
const { measure, flush } = openMetrics('migrate', config)
const database = openDatabase({ ...config, databaseSecretArn: config.databaseOwnerSecretArn, measure })
const secret = openVersionedSecret(config.databaseSecretArn)
const directory = config.sqlDirectory ?? fileURLToPath(new URL('../../sql', import.meta.url))

export const handler = middy<unknown, { applied: string[] }>({ requestEnd: flush }).handler(async () => {
  const applied = await migrate(database, await readSqlFiles(directory), sqlText)
  const login = await setLogin({ database, secret })
  log.info('schema is up to date', { applied, login })
  return { applied }
})
