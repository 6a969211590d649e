import { Duration } from 'aws-cdk-lib'
import * as sqs from 'aws-cdk-lib/aws-sqs'
import { Construct } from 'constructs'
import { allow, type Grant } from '../grant.ts'
import { removalOf } from '../removal.ts'
import { resources } from '../resources.ts'
import type { Settings } from '../settings.ts'

/**
 * The durable queues, between answering and saving, and between asking for a job and doing it; and where what can never be
 * done ends up.
 */
export class TurnQueues extends Construct {
  readonly turns: sqs.Queue
  readonly dead: sqs.Queue
  readonly jobs: sqs.Queue
  readonly jobsDead: sqs.Queue

  constructor(scope: Construct, id: string, settings: Pick<Settings, 'dataRemoval'>) {
    super(scope, id)
    const made: Record<string, sqs.Queue> = {}
    for (const [name, { visibilitySeconds, retentionSeconds, deadLetters }] of Object.entries(
      resources.queues,
    ))
      made[name] = new sqs.Queue(this, name, {
        visibilityTimeout: Duration.seconds(visibilitySeconds),
        retentionPeriod: Duration.seconds(retentionSeconds),
        encryption: sqs.QueueEncryption.SQS_MANAGED,
        enforceSSL: true,
        removalPolicy: removalOf(settings),
        ...(deadLetters && {
          deadLetterQueue: {
            queue: found(made, deadLetters.queue),
            maxReceiveCount: deadLetters.maxReceiveCount,
          },
        }),
      })
    this.turns = found(made, 'turns')
    this.dead = found(made, 'turns-dead')
    this.jobs = found(made, 'jobs')
    this.jobsDead = found(made, 'jobs-dead')
  }

  get(name: string): sqs.Queue {
    return found({ turns: this.turns, jobs: this.jobs }, name)
  }

  toSend(): Grant {
    return this.turnsTo('sqs:SendMessage')
  }

  /** To see whether it holds anything. */
  toCount(): Grant {
    return this.turnsTo('sqs:GetQueueAttributes')
  }

  /** To put off what cannot be saved yet. */
  toPostpone(): Grant {
    return this.turnsTo('sqs:ChangeMessageVisibility')
  }

  /** To set aside what can never be saved. */
  toBury(): Grant {
    return {
      variables: { TURNS_DEAD_QUEUE_URL: this.dead.queueUrl },
      statements: [allow(['sqs:SendMessage'], this.dead.queueArn)],
    }
  }

  toSendJobs(): Grant {
    return this.jobsTo('sqs:SendMessage')
  }

  /** To have a job that failed come back soon. */
  toPostponeJobs(): Grant {
    return this.jobsTo('sqs:ChangeMessageVisibility')
  }

  private jobsTo(action: string): Grant {
    return {
      variables: { JOBS_QUEUE_URL: this.jobs.queueUrl },
      statements: [allow([action], this.jobs.queueArn)],
    }
  }

  private turnsTo(action: string): Grant {
    return {
      variables: { TURNS_QUEUE_URL: this.turns.queueUrl },
      statements: [allow([action], this.turns.queueArn)],
    }
  }
}

function found(queues: Record<string, sqs.Queue>, name: string): sqs.Queue {
  const queue = queues[name]
  if (!queue) throw new Error(`lib/resources.ts names the queue ${name} before it makes it`)
  return queue
}
