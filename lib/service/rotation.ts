import { Stack } from 'aws-cdk-lib'
import * as iam from 'aws-cdk-lib/aws-iam'
import type * as lambda from 'aws-cdk-lib/aws-lambda'
import * as secretsmanager from 'aws-cdk-lib/aws-secretsmanager'
import { Construct } from 'constructs'

const EVERY_DAYS = 30

/** Has Secrets Manager rotate a secret with one of our functions. What the function may do is given to it elsewhere. */
export class Rotation extends Construct {
  constructor(scope: Construct, id: string, secret: secretsmanager.Secret, rotator: lambda.Function) {
    super(scope, id)
    const mayInvoke = new iam.ServicePrincipal('secretsmanager.amazonaws.com')
    rotator.addPermission('SecretsManager', { principal: mayInvoke, sourceAccount: Stack.of(this).account })
    // Not the L2: it would also give the function what it does not use, on every secret.
    const schedule = new secretsmanager.CfnRotationSchedule(this, 'Schedule', {
      secretId: secret.secretArn,
      rotationLambdaArn: rotator.functionArn,
      rotationRules: { automaticallyAfterDays: EVERY_DAYS },
      rotateImmediatelyOnUpdate: false, // the first password is as new as the first deployment
    })
    schedule.node.addDependency(rotator)
  }
}
