/**
 * What a synthesised environment says, as the local cloud understands it: resources, variables, roles. So a proof
 * runs on the templates themselves and on the bundles that lie beside them, not on what made them.
 */
import { join } from 'node:path'
import type { EventSourceResource, FunctionResource, QueueResource, Resources } from '../../lib/resources.ts'
import type { TokenShape } from '../../local/cloud/dev-issuer.ts'
import { readAssembly, type Stack } from './assembly.ts'
import { QUEUES, type Resolved, resolvedOfType } from './physical-values.ts'
import { type Policies, readStatements, type Statement } from './policies.ts'

export interface DeployedFunction extends FunctionResource {
  memoryMb: number
  /** Absolute: where its bundle lies. */
  taskRoot: string
  /** file.export, as the template says. */
  entryPoint: string
  variables: Record<string, string>
  logGroup: string
  /** As Lambda is told to write: JSON or Text, and from which level on. */
  logging: { LogFormat?: string; ApplicationLogLevel?: string }
}

export interface Deployment {
  /** For `startCloud`. Each handler is the file in its bundle. */
  resources: Resources & { functions: Record<string, DeployedFunction> }
  policies: Policies
  tokens: TokenShape
  /** Places of functions that are not the product's. */
  others: string[]
}

const OWN_FUNCTION = /^([a-z]+)\/Function(\/.*)?$/
/** By the place of a construct: what the local cloud calls it. Others go by their place. */
const LOCAL_NAMES: [RegExp, string][] = [
  [OWN_FUNCTION, '$1'],
  [/^Queues\/([a-z-]+)$/, '$1'],
  [/^Content\/Bucket$/, 'content'],
  [/^Database\/Cluster$/, 'turnkeep'],
  [/^Database\/Login$/, 'turnkeep-app'],
  [/^Secrets\/Resume$/, 'turnkeep-resume'],
  [/^Secrets\/Pseudonym$/, 'turnkeep-pseudonym'],
  [/^Secrets\/Origin$/, 'turnkeep-origin'],
  [/^Secrets\/ModelKey$/, 'turnkeep-model-key'],
]

export function localName(path: string): string {
  const known = LOCAL_NAMES.find(([place]) => place.test(path))
  return known ? path.replace(...known) : path.replaceAll('/', '-').toLowerCase()
}

type Values = Record<string, unknown>

/** Throws for anything in the templates that it does not know. */
export function readDeployment(directory: string): Deployment {
  const stacks = readAssembly(directory)
  const of = (...types: string[]) => resolvedOfType(stacks, localName, ...types)
  const functions = readFunctions(of)
  return {
    resources: {
      functions,
      queues: readQueues(of),
      eventSources: readEventSources(of),
      schedules: of('AWS::Scheduler::Schedule').map(readSchedule),
      buckets: of('AWS::S3::Bucket').map(({ name }) => name),
      routes: of('AWS::CloudFront::Distribution').flatMap(readRoutes),
      startup: of('Custom::Trigger').map(({ properties }) => functionOf(properties.HandlerArn)),
    },
    policies: readPolicies(of, functions),
    tokens: readTokens(functions),
    others: of('AWS::Lambda::Function').flatMap(({ path }) => (isOwn(path) ? [] : [path])),
  }
}

type Of = (...types: string[]) => Resolved[]

const isOwn = (path: string): boolean => OWN_FUNCTION.test(path)
const ownFunctions = (of: Of): Resolved[] => of('AWS::Lambda::Function').filter(({ path }) => isOwn(path))

function readFunctions(of: Of): Record<string, DeployedFunction> {
  const urls = of('AWS::Lambda::Url').map(({ properties }) => [
    functionOf(properties.TargetFunctionArn),
    properties,
  ])
  const urlOf = Object.fromEntries(urls) as Record<string, { InvokeMode: string; AuthType: string }>
  return Object.fromEntries(
    ownFunctions(of).map(({ name, properties, stack }) => [
      name,
      readFunction(stack, properties as unknown as FunctionProperties, urlOf[name]),
    ]),
  )
}

interface FunctionProperties {
  Code: { S3Key: string }
  Handler: string
  Timeout: number
  MemorySize: number
  Environment: { Variables: Record<string, string> }
  LoggingConfig: { LogGroup: string; LogFormat?: string; ApplicationLogLevel?: string }
}

function readFunction(
  stack: Stack,
  { Code, Handler, Timeout, MemorySize, Environment, LoggingConfig }: FunctionProperties,
  url: { InvokeMode: string } | undefined,
): DeployedFunction {
  const taskRoot = found(stack.assets[Code.S3Key], `the bundle ${Code.S3Key}`)
  const { LogGroup, ...logging } = LoggingConfig
  return {
    handler: join(taskRoot, Handler.replace(/\.\w+$/, '.mjs')),
    entryPoint: Handler,
    taskRoot,
    timeoutSeconds: Timeout,
    memoryMb: MemorySize,
    variables: Environment.Variables,
    logGroup: LogGroup,
    logging,
    ...(url && { url: url.InvokeMode === 'RESPONSE_STREAM' ? 'streaming' : 'buffered' }),
  }
}

function readQueues(of: Of): Record<string, QueueResource> {
  const entries = of('AWS::SQS::Queue').map(({ name, properties }) => {
    const redrive = properties.RedrivePolicy as
      | { deadLetterTargetArn: string; maxReceiveCount: number }
      | undefined
    const queue: QueueResource = {
      visibilitySeconds: Number(properties.VisibilityTimeout ?? SQS_DEFAULTS.visibilitySeconds),
      retentionSeconds: Number(properties.MessageRetentionPeriod ?? SQS_DEFAULTS.retentionSeconds),
      ...(redrive && {
        deadLetters: {
          queue: lastPart(redrive.deadLetterTargetArn),
          maxReceiveCount: redrive.maxReceiveCount,
        },
      }),
    }
    return [name, queue] as const
  })
  // What others name must be there first.
  return Object.fromEntries(
    entries.sort(([, a], [, b]) => Number('deadLetters' in a) - Number('deadLetters' in b)),
  )
}

const SQS_DEFAULTS: QueueResource = { visibilitySeconds: 30, retentionSeconds: 4 * 24 * 3600 }

function readEventSources(of: Of): EventSourceResource[] {
  return of('AWS::Lambda::EventSourceMapping').map(({ properties }) => ({
    queue: lastPart(properties.EventSourceArn),
    function: functionOf(properties.FunctionName),
    batchSize: Number(properties.BatchSize),
    windowSeconds: Number(properties.MaximumBatchingWindowInSeconds ?? 0),
    reportBatchItemFailures: ((properties.FunctionResponseTypes ?? []) as string[]).includes(
      'ReportBatchItemFailures',
    ),
    maxConcurrency: Number((properties.ScalingConfig as Values).MaximumConcurrency),
  }))
}

function readSchedule({ properties }: Resolved) {
  const { Arn } = properties.Target as Values
  const [, count, unit = ''] = /^rate\((\d+) (\w+?)s?\)$/.exec(String(properties.ScheduleExpression)) ?? []
  const seconds = found(
    { minute: 60, hour: 3_600, day: 86_400 }[unit],
    `the schedule ${properties.ScheduleExpression}`,
  )
  return { function: functionOf(Arn), everySeconds: Number(count) * seconds }
}

/** Behaviours that lead to a function; the default one leads to the page. */
function readRoutes({ properties }: Resolved) {
  const { CacheBehaviors, Origins } = properties.DistributionConfig as {
    CacheBehaviors: { PathPattern: string; TargetOriginId: string }[]
    Origins: { Id: string; DomainName: string }[]
  }
  return CacheBehaviors.map(({ PathPattern, TargetOriginId }) => {
    const origin = Origins.find(({ Id }) => Id === TargetOriginId)
    const name = /^([\w-]+)\.lambda-url\./.exec(origin?.DomainName ?? '')?.[1]
    return { path: PathPattern, function: found(name, `the origin of ${PathPattern}`) }
  })
}

function readPolicies(of: Of, functions: Record<string, DeployedFunction>): Policies {
  const roleOf = Object.fromEntries(
    ownFunctions(of).map(({ name, properties }) => [name, String(properties.Role)]),
  )
  const statements = statementsByRole(of)
  return {
    roles: Object.fromEntries(
      Object.keys(functions).map((name) => [name, statements.get(lastPart(roleOf[name], '/')) ?? []]),
    ),
    roleArns: roleOf,
    resources: of(
      'AWS::S3::BucketPolicy',
      'AWS::SQS::QueuePolicy',
      'AWS::SecretsManager::ResourcePolicy',
    ).flatMap(({ id, properties }) =>
      readStatements(id, properties.PolicyDocument ?? properties.ResourcePolicy),
    ),
  }
}

function statementsByRole(of: Of): Map<string, Statement[]> {
  const statements = new Map<string, Statement[]>()
  const add = (role: string, source: string, document: unknown) =>
    statements.set(role, [...(statements.get(role) ?? []), ...readStatements(source, document)])
  for (const { id, name, properties } of of('AWS::IAM::Role')) {
    const { Policies = [], ManagedPolicyArns = [] } = properties as {
      Policies?: { PolicyDocument: unknown }[]
      ManagedPolicyArns?: string[]
    }
    for (const { PolicyDocument } of Policies) add(name, id, PolicyDocument)
    for (const arn of ManagedPolicyArns) add(name, arn, managedPolicy(arn))
  }
  for (const { id, properties } of of('AWS::IAM::Policy', 'AWS::IAM::ManagedPolicy'))
    for (const role of properties.Roles as string[]) add(role, id, properties.PolicyDocument)
  return statements
}

/** What AWS maintains itself is not in the template; only the roles of CDK's own helpers use one. */
function managedPolicy(arn: string): unknown {
  return { Statement: { Effect: 'Allow', Action: `managed:${lastPart(arn, '/')}`, Resource: '*' } }
}

function readTokens(functions: Record<string, DeployedFunction>): TokenShape {
  const { AUTH_ISSUER, AUTH_AUDIENCE, ...variables } = functions.chat?.variables ?? {}
  return {
    issuer: found(AUTH_ISSUER, 'AUTH_ISSUER of chat'),
    audience: found(AUTH_AUDIENCE, 'AUTH_AUDIENCE of chat'),
    claims: {
      userId: variables.CLAIM_USER_ID ?? 'sub',
      companyId: variables.CLAIM_COMPANY_ID ?? 'company_id',
      platform: variables.CLAIM_PLATFORM ?? 'platform',
      role: variables.CLAIM_ROLE ?? 'role',
    },
  }
}

/** The function of an ARN, with or without a version, or its name as it is. */
function functionOf(reference: unknown): string {
  return String(reference)
    .replace(/^arn:aws:lambda:[\w-]+:\d+:function:/, '')
    .replace(/:.*$/, '')
}

function lastPart(arn: unknown, separator = ':'): string {
  const text = String(arn)
  return text.slice(text.lastIndexOf(separator) + 1)
}

function found<Value>(value: Value | undefined, what: string): Value {
  if (value === undefined) throw new Error(`The template does not say ${what}`)
  return value
}

/**
 * A function's variables as the template says, with the local queues where those of AWS would be. Refuses one that
 * would hold a secret itself.
 */
export function variablesOf({ variables }: DeployedFunction, queueAddress: string): Record<string, string> {
  return Object.fromEntries(
    Object.entries(variables).map(([name, value]) => {
      if (value.includes('{{resolve:')) throw new Error(`${name} would hold a secret`)
      return [name, value.replace(QUEUES, queueAddress)]
    }),
  )
}
