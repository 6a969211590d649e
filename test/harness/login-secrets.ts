/** What the Data API reads where no Secrets Manager runs: `…-owner` is the owner, `…-app` the functions' first login. */
import type { DataApiOptions } from '../../local/cloud/data-api.ts'
import type { Postgres } from '../../local/cloud/postgres.ts'

export const loginSecrets =
  ({ owner }: Postgres): DataApiOptions['secretOf'] =>
  (arn) => {
    const username = /-owner$/.test(arn) ? owner : /-app$/.test(arn) ? 'turnkeep_app_1' : undefined
    return username && JSON.stringify({ username, password: '' })
  }
