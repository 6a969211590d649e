import { Duration } from 'aws-cdk-lib'
import type * as lambda from 'aws-cdk-lib/aws-lambda'
import { Trigger } from 'aws-cdk-lib/triggers'
import { Construct } from 'constructs'

/**
 * Brings the schema up to date while a deployment runs, whenever the migrating function or the SQL in its bundle
 * changed: before `users`, which need the new schema, and failing the deployment where it fails, so that they are
 * never updated to code that the database does not know.
 */
export class Migration extends Construct {
  constructor(scope: Construct, id: string, migrate: lambda.Function, users: Construct[]) {
    super(scope, id)
    new Trigger(this, 'Run', {
      handler: migrate,
      timeout: migrate.timeout ?? Duration.minutes(5),
      executeBefore: users,
    })
  }
}
