/** Rotates the functions' login: Secrets Manager invokes it once for each of its four steps. */
import middy from '@middy/core'
import type { SecretsManagerRotationEvent } from 'aws-lambda'
import { rotate } from '../logins/rotate.ts'
import { databaseSettings, readConfig } from '../runtime/config.ts'
import { openLogger } from '../runtime/logger.ts'
import { openMetrics } from '../runtime/metrics.ts'
import { isLoginRefused, openDatabase } from '../services/database.ts'
import { openVersionedSecret } from '../services/secrets.ts'

const config = readConfig([...databaseSettings, 'metricsNamespace'])
const log = openLogger('rotate')
const { measure, flush } = openMetrics('rotate', config)
const services = {
  secret: openVersionedSecret(config.databaseSecretArn),
  database: openDatabase({ ...config, measure }),
  isLoginRefused,
}

export const handler = middy<SecretsManagerRotationEvent, void>({ requestEnd: flush }).handler(
  async ({ Step: step, SecretId: secretArn, ClientRequestToken: version }) => {
    if (secretArn !== config.databaseSecretArn) throw new Error(`${secretArn} is not the app secret.`)
    await rotate(services, step, version)
    log.info('login rotated by a step', { step, version })
  },
)
