import { Duration, Validations } from 'aws-cdk-lib'
import * as iam from 'aws-cdk-lib/aws-iam'
import * as lambda from 'aws-cdk-lib/aws-lambda'
import * as logs from 'aws-cdk-lib/aws-logs'
import { Construct } from 'constructs'
import { allow, type Grant, told } from '../grant.ts'
import { removalOf } from '../removal.ts'
import { type EventSourceResource, resources } from '../resources.ts'
import type { Settings } from '../settings.ts'

interface Options {
  /** The bundle. */
  directory: string
  settings: Pick<Settings, 'logRetentionDays' | 'dataRemoval'>
  variables: Record<string, string>
  /** It puts messages back into the queue that feeds it, on purpose. */
  resends?: boolean
}

/**
 * One of the functions of lib/resources.ts, with a role of its own that may write its log and whatever `give` gives,
 * and nothing else.
 */
export class ProductFunction extends Construct {
  readonly lambda: lambda.Function
  readonly logGroup: logs.LogGroup
  readonly url: lambda.FunctionUrl | undefined
  private readonly role: iam.Role
  private readonly given = new Map<string, string>()

  constructor(
    scope: Construct,
    id: keyof typeof resources.functions,
    { directory, settings, variables, resends = false }: Options,
  ) {
    super(scope, id)
    const resource = resources.functions[id]
    if (!resource) throw new Error(`lib/resources.ts has no function ${id}`)
    this.logGroup = logGroup(this, settings)
    this.role = new iam.Role(this, 'Role', { assumedBy: new iam.ServicePrincipal('lambda.amazonaws.com') })
    this.role.addToPolicy(writeTo(this.logGroup))
    this.lambda = new lambda.Function(this, 'Function', {
      description: `Turnkeep: ${id}`,
      runtime: lambda.Runtime.NODEJS_24_X,
      architecture: lambda.Architecture.ARM_64, // a fifth cheaper
      code: lambda.Code.fromAsset(directory),
      handler: 'index.handler',
      memorySize: resource.memoryMb,
      timeout: Duration.seconds(resource.timeoutSeconds),
      role: this.role,
      // Lambda ends what looks like a loop after about 16 rounds, and drops the message.
      ...(resends && { recursiveLoop: lambda.RecursiveLoop.ALLOW }),
      logGroup: this.logGroup,
      loggingFormat: lambda.LoggingFormat.JSON,
      applicationLogLevelV2: lambda.ApplicationLogLevel.INFO,
      systemLogLevelV2: lambda.SystemLogLevel.INFO, // the report of each invocation: duration, memory, start
    })
    // Stacks name sources and lines. Reading the maps costs a cold start of chat about 15 ms, others less.
    const nodeOptions = ['--enable-source-maps', ...(resource.nodeOptions ? [resource.nodeOptions] : [])]
    this.give(told({ NODE_OPTIONS: nodeOptions.join(' '), ...variables }))
    // For anybody: callers show a token, which the functions check themselves. IAM would want each request signed.
    if (resource.url)
      this.url = this.lambda.addFunctionUrl({
        authType: lambda.FunctionUrlAuthType.NONE,
        invokeMode:
          resource.url === 'streaming' ? lambda.InvokeMode.RESPONSE_STREAM : lambda.InvokeMode.BUFFERED,
      })
  }

  /** Variables and permissions, together. Refuses a variable that has another value already. */
  give(...grants: Grant[]): void {
    for (const { variables, statements, accepted = [] } of grants) {
      for (const [name, value] of Object.entries(variables)) {
        if ((this.given.get(name) ?? value) !== value)
          throw new Error(`${this.node.id}: ${name} is given twice, with two values`)
        this.given.set(name, value)
        this.lambda.addEnvironment(name, value)
      }
      for (const statement of statements) this.role.addToPolicy(statement)
      Validations.of(this.role).acknowledge(...accepted)
    }
  }

  /** Is invoked with batches of a queue: what Lambda's poller does, it does in this function's name. */
  consume(
    { queueArn }: { queueArn: string },
    source: Omit<EventSourceResource, 'queue' | 'function'>,
  ): lambda.EventSourceMapping {
    this.role.addToPolicy(
      allow(['sqs:ReceiveMessage', 'sqs:DeleteMessage', 'sqs:GetQueueAttributes'], queueArn),
    )
    return new lambda.EventSourceMapping(this, 'Source', {
      target: this.lambda,
      eventSourceArn: queueArn,
      batchSize: source.batchSize,
      maxBatchingWindow: Duration.seconds(source.windowSeconds),
      reportBatchItemFailures: source.reportBatchItemFailures,
      maxConcurrency: source.maxConcurrency,
    })
  }
}

/** The log group of one function, kept as long as the settings say. */
export function logGroup(
  scope: Construct,
  settings: Pick<Settings, 'logRetentionDays' | 'dataRemoval'>,
  id = 'Log',
): logs.LogGroup {
  return new logs.LogGroup(scope, id, {
    retention: settings.logRetentionDays, // in days, as CDK's enumeration is
    removalPolicy: removalOf(settings),
  })
}

export const writeTo = (group: logs.ILogGroup): iam.PolicyStatement =>
  allow(['logs:CreateLogStream', 'logs:PutLogEvents'], group.logGroupArn)
