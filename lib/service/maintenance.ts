import { Duration, Stack, Validations } from 'aws-cdk-lib'
import * as iam from 'aws-cdk-lib/aws-iam'
import type * as lambda from 'aws-cdk-lib/aws-lambda'
import * as scheduler from 'aws-cdk-lib/aws-scheduler'
import * as targets from 'aws-cdk-lib/aws-scheduler-targets'
import * as sqs from 'aws-cdk-lib/aws-sqs'
import { Construct } from 'constructs'
import { allow } from '../grant.ts'
import type { ScheduleResource } from '../resources.ts'

const DEAD_LETTER_DAYS = 14
/** As long as Lambda keeps an invocation that it cannot run. */
const MAX_EVENT_AGE_SECONDS = 6 * 3600

/**
 * Functions that run by the clock. EventBridge Scheduler hands an invocation over and is done; what it could not hand
 * over within a period goes to a dead letter queue. A run that failed is not repeated, since the next one comes.
 */
export class Maintenance extends Construct {
  /** What could not be handed over. Anything in it means that permissions or the function itself are missing. */
  readonly dead: sqs.Queue

  constructor(
    scope: Construct,
    id: string,
    schedules: { schedule: ScheduleResource; target: lambda.Function }[],
  ) {
    super(scope, id)
    this.dead = new sqs.Queue(this, 'Dead', {
      encryption: sqs.QueueEncryption.SQS_MANAGED,
      enforceSSL: true,
      retentionPeriod: Duration.days(DEAD_LETTER_DAYS),
    })
    Validations.of(this.dead).acknowledge({
      id: 'AwsSolutions-SQS3',
      reason: 'It is a dead letter queue, of a scheduler, where the rule does not look.',
    })
    for (const { schedule, target } of schedules) this.add(schedule, target)
  }

  private add({ function: name, everySeconds }: ScheduleResource, target: lambda.Function): void {
    const { account } = Stack.of(this)
    const role = new iam.Role(this, `${name}-role`, {
      assumedBy: new iam.ServicePrincipal('scheduler.amazonaws.com', {
        conditions: { StringEquals: { 'aws:SourceAccount': account } },
      }),
    })
    role.addToPolicy(allow(['lambda:InvokeFunction'], target.functionArn))
    role.addToPolicy(allow(['sqs:SendMessage'], this.dead.queueArn))
    const period = Duration.seconds(everySeconds)
    // Later than the next run, nobody needs this one.
    const maxEventAge = Duration.seconds(Math.min(everySeconds, MAX_EVENT_AGE_SECONDS))
    new scheduler.Schedule(this, name, {
      description: `Turnkeep: ${name}`,
      schedule: scheduler.ScheduleExpression.rate(period),
      target: new targets.LambdaInvoke(target, {
        // The target's own statements would add every version of the function.
        role: role.withoutPolicyUpdates(),
        retryAttempts: 3,
        maxEventAge,
        deadLetterQueue: this.dead,
      }),
    })
    target.configureAsyncInvoke({ retryAttempts: 0, maxEventAge })
  }
}
