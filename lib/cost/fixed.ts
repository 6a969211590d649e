/**
 * What an environment costs in a month in which nobody comes: resource by resource, from the template. A type that
 * is in none of the lists below is an error, so that whoever adds one says what it costs.
 */
import { assumptions } from './assumptions.ts'
import type { Consumption } from './consumption.ts'
import { type Line, line } from './prices.ts'
import {
  type Found,
  gbSeconds,
  memoryOf,
  monthsOfLogs,
  nameOfFunction,
  ofType,
  resourcesOf,
  type Template,
} from './template.ts'

interface Context {
  templates: readonly Template[]
  consumption: Consumption
}

/** A resource that is there but has no price here. */
export class UnknownCost extends Error {}

/** Cost nothing, whatever is done with them. */
const FREE = [
  'AWS::CloudFormation::CustomResource',
  'AWS::CloudFront::CachePolicy',
  'AWS::CloudFront::OriginAccessControl',
  'AWS::CloudFront::OriginRequestPolicy',
  'AWS::CloudFront::ResponseHeadersPolicy',
  'AWS::Cognito::ManagedLoginBranding',
  'AWS::Cognito::UserPoolClient',
  'AWS::Cognito::UserPoolDomain',
  'AWS::Cognito::UserPoolGroup',
  'AWS::EC2::RouteTable',
  'AWS::EC2::SecurityGroup',
  'AWS::EC2::SecurityGroupEgress',
  'AWS::EC2::SecurityGroupIngress',
  'AWS::EC2::Subnet',
  'AWS::EC2::SubnetRouteTableAssociation',
  'AWS::EC2::VPC',
  'AWS::ElastiCache::User',
  'AWS::ElastiCache::UserGroup',
  'AWS::IAM::ManagedPolicy',
  'AWS::IAM::Policy',
  'AWS::IAM::Role',
  'AWS::Lambda::EventInvokeConfig',
  'AWS::Lambda::LayerVersion',
  'AWS::Lambda::Permission',
  'AWS::Lambda::Url',
  'AWS::Logs::QueryDefinition',
  'AWS::Logs::ResourcePolicy',
  'AWS::RDS::DBClusterParameterGroup',
  'AWS::RDS::DBParameterGroup',
  'AWS::RDS::DBSubnetGroup',
  'AWS::S3::BucketPolicy',
  'AWS::SQS::QueuePolicy',
  'AWS::SecretsManager::ResourcePolicy',
  'AWS::SecretsManager::SecretTargetAttachment',
]

/** Cost what is done with them: nothing while nobody comes. lib/cost/turns.ts counts them. */
const BY_USE = [
  'AWS::CloudFront::Distribution',
  'AWS::CloudFront::Function',
  'AWS::S3::Bucket', // what lies in it
  'AWS::SNS::Subscription', // alarms, by e-mail
  'AWS::SNS::Topic',
  'AWS::SNS::TopicPolicy',
  'AWS::Cognito::UserPool', // by user; see "not counted"
]

/** Run by CloudFormation while it deploys. */
const isCustom = (type: string): boolean => type.startsWith('Custom::') || type === 'AWS::CDK::Metadata'

const PRICED: Record<string, (found: Found, context: Context) => Line[]> = {
  'AWS::RDS::DBCluster': database,
  'AWS::RDS::DBInstance': ({ id, properties }) => {
    if (properties.DBInstanceClass !== 'db.serverless')
      throw new UnknownCost(`${id} is a ${properties.DBInstanceClass}, which has no price here.`)
    return [] // its capacity is the cluster's
  },
  'AWS::SecretsManager::Secret': () => [line('Secrets Manager', 'secrets', 1, 'secretMonth')],
  'AWS::SecretsManager::RotationSchedule': rotation,
  'AWS::CloudWatch::Alarm': ({ properties }) => [
    line('CloudWatch', 'alarms', metricsOfAlarm(properties), 'alarmMetric'),
  ],
  'AWS::CloudWatch::CompositeAlarm': () => [line('CloudWatch', 'composite alarms', 1, 'compositeAlarm')],
  'AWS::CloudWatch::Dashboard': () => [line('CloudWatch', 'dashboards', 1, 'dashboard')],
  'AWS::Logs::LogGroup': ({ id, properties }) => {
    if (properties.RetentionInDays === undefined) throw new UnknownCost(`${id} keeps its lines for ever.`)
    return [] // by what is written
  },
  'AWS::Logs::MetricFilter': ({ properties }) => [
    line('CloudWatch', 'metrics of log filters', properties.MetricTransformations.length, 'customMetric'),
  ],
  'AWS::Lambda::Function': ({ id, properties }) => {
    const { EphemeralStorage, SnapStart } = properties
    if (EphemeralStorage?.Size > 512 || SnapStart !== undefined)
      throw new UnknownCost(`${id} has more than plain memory, which has no price here.`)
    return [] // by invocation
  },
  'AWS::Lambda::Version': withoutProvisionedConcurrency,
  'AWS::Lambda::Alias': withoutProvisionedConcurrency,
  'AWS::Lambda::EventSourceMapping': () => {
    const { idlePollers, longPollSeconds, hoursAMonth } = assumptions
    const polls = (idlePollers * hoursAMonth * 3_600) / longPollSeconds
    return [line('SQS', 'polls of an empty queue', polls, 'sqsRequest')]
  },
  'AWS::SQS::Queue': ({ id, properties }) => {
    if (properties.FifoQueue) throw new UnknownCost(`${id} is a FIFO queue, which has no price here.`)
    return []
  },
  'AWS::Scheduler::Schedule': schedule,
  'AWS::ElastiCache::ServerlessCache': () => [
    line(
      'ElastiCache',
      'cache, the least that is billed',
      assumptions.leastCacheGb * assumptions.hoursAMonth,
      'valkeyGbHour',
    ),
  ],
  'AWS::KMS::Key': () => [line('KMS', 'keys', 1, 'kmsKey')],
  'AWS::KMS::Alias': () => [],
  'AWS::EC2::NatGateway': () => [line('VPC', 'NAT gateways', assumptions.hoursAMonth, 'natHour')],
  'AWS::EC2::EIP': () => [line('VPC', 'public addresses', assumptions.hoursAMonth, 'publicAddressHour')],
  'AWS::EC2::VPCEndpoint': ({ properties }) => {
    if ((properties.VpcEndpointType ?? 'Gateway') === 'Gateway') return []
    const zones = properties.SubnetIds?.length ?? 1
    return [line('VPC', 'interface endpoints', zones * assumptions.hoursAMonth, 'endpointHour')]
  },
}

/** Throws UnknownCost, which names everything that has no price. */
export function fixedCost(context: Context): Line[] {
  const unknown: string[] = []
  const lines = resourcesOf(context.templates).flatMap(({ id, Type, Properties = {} }) => {
    const priced = PRICED[Type]
    if (priced) return priced({ id, properties: Properties }, context)
    if (!FREE.includes(Type) && !BY_USE.includes(Type) && !isCustom(Type)) unknown.push(`${Type} (${id})`)
    return []
  })
  if (unknown.length > 0)
    throw new UnknownCost(`lib/cost/fixed.ts does not know what this costs: ${unknown.join(', ')}.`)
  return summed(lines)
}

/** Lines of the same thing as one. */
function summed(lines: readonly Line[]): Line[] {
  const groups = Map.groupBy(lines, ({ service, item }) => `${service} ${item}`)
  return [...groups.values()].map((group) => {
    const [{ service, item, price }] = group as [Line]
    return line(
      service,
      item,
      group.reduce((sum, { quantity }) => sum + quantity, 0),
      price,
    )
  })
}

export interface Capacity {
  minAcu: number
  pauses: boolean
  pauseMinutes: number
  instances: number
  insights: boolean
}

export function capacityOf(templates: readonly Template[]): Capacity {
  const [cluster, ...more] = ofType(templates, 'AWS::RDS::DBCluster')
  if (cluster === undefined || more.length > 0) throw new UnknownCost('There is not one database cluster.')
  const { ServerlessV2ScalingConfiguration: scaling, StorageType, DatabaseInsightsMode } = cluster.properties
  if (scaling === undefined) throw new UnknownCost(`${cluster.id} is not Serverless v2.`)
  if (StorageType !== undefined && StorageType !== 'aurora')
    throw new UnknownCost(`${cluster.id} has ${StorageType} storage, which has no price here.`)
  return {
    minAcu: Number(scaling.MinCapacity),
    pauses: Number(scaling.MinCapacity) === 0,
    pauseMinutes: Number(scaling.SecondsUntilAutoPause ?? 300) / 60,
    instances: ofType(templates, 'AWS::RDS::DBInstance').length,
    insights: DatabaseInsightsMode === 'advanced',
  }
}

function database({ properties }: Found, { templates }: Context): Line[] {
  const { minAcu, pauses, pauseMinutes, instances, insights } = capacityOf(templates)
  const { hoursAMonth, leastDatabaseGib, leastAwakeAcu, ownerRotationDays } = assumptions
  const acuHours = minAcu * instances * hoursAMonth
  const managed = properties.ManageMasterUserPassword === true
  const wakings = hoursAMonth / 24 / ownerRotationDays
  return [
    ...(pauses
      ? []
      : [line('Aurora', `capacity, ${instances} x ${minAcu} ACU at least`, acuHours, 'auroraAcuHour')]),
    line('Aurora', 'storage, the least that is counted', leastDatabaseGib, 'auroraStorageGib'),
    ...(insights ? [line('CloudWatch', 'Database Insights', acuHours, 'insightsAcuHour')] : []),
    ...(managed ? [line('Secrets Manager', 'secrets', 1, 'secretMonth')] : []),
    ...(managed && pauses
      ? [line('Aurora', 'woken by rotations', (wakings * leastAwakeAcu * pauseMinutes) / 60, 'auroraAcuHour')]
      : []),
  ]
}

/** Four steps, each an invocation of a function that wakes the database. */
function rotation({ properties }: Found, { templates }: Context): Line[] {
  const { hoursAMonth, leastAwakeAcu } = assumptions
  const days = Number(properties.RotationRules?.AutomaticallyAfterDays)
  if (!(days > 0)) throw new UnknownCost('How often does the rotation run?')
  const { pauses, pauseMinutes } = capacityOf(templates)
  const times = hoursAMonth / 24 / days
  return [
    line('Lambda', 'requests of rotations', times * 4, 'lambdaRequest'),
    ...(pauses
      ? [line('Aurora', 'woken by rotations', (times * leastAwakeAcu * pauseMinutes) / 60, 'auroraAcuHour')]
      : []),
  ]
}

/** Each metric that an alarm looks at is billed, also inside an expression. */
function metricsOfAlarm({ Metrics }: Found['properties']): number {
  if (Metrics === undefined) return 1
  return Metrics.filter(({ MetricStat }: { MetricStat?: object }) => MetricStat !== undefined).length
}

const SECONDS: Record<string, number> = { minute: 60, hour: 3_600, day: 86_400 }

function runsAMonth(expression: string): number {
  const [, every, unit] = /^rate\((\d+) (minute|hour|day)s?\)$/.exec(expression) ?? []
  if (every === undefined || unit === undefined) throw new UnknownCost(`How often is ${expression}?`)
  return (assumptions.hoursAMonth * 3_600) / (Number(every) * (SECONDS[unit] ?? 0))
}

/** One run while nobody is there. */
function idleUse(name: string, { idle }: Consumption) {
  const use = idle.functions[name]
  const calls = idle.calls.filter((call) => call.function === name)
  if (use !== undefined || name !== 'archive') return use && { ...use, calls }
  const { objects, ...run } = assumptions.idleArchiveRun
  return { ...run, calls: [{ service: 's3' as const, calls: objects, units: objects }] }
}

/** A database that pauses is woken by the archiver now and then. */
function archiverLooks(templates: readonly Template[]): Line[] {
  const { pauses, pauseMinutes } = capacityOf(templates)
  const { hoursAMonth, archiveLooksDays, leastAwakeAcu } = assumptions
  const looks = hoursAMonth / 24 / archiveLooksDays
  return pauses
    ? [line('Aurora', 'woken by the archiver', (looks * leastAwakeAcu * pauseMinutes) / 60, 'auroraAcuHour')]
    : []
}

/** What it starts is taken for a cold start each time: five minutes are long. */
function schedule({ id, properties }: Found, { templates, consumption }: Context): Line[] {
  const runs = runsAMonth(properties.ScheduleExpression)
  const targetId = properties.Target?.Arn?.['Fn::GetAtt']?.[0]
  const target = ofType(templates, 'AWS::Lambda::Function').find((found) => found.id === targetId)
  const name = target && nameOfFunction(target.id)
  const use = name === undefined ? undefined : idleUse(name, consumption)
  if (target === undefined || name === undefined || use === undefined)
    throw new UnknownCost(`${id} starts what bench/turn has not measured while nobody is there.`)
  const { coldStarts, networkMs, platformLogBytes, logCompression, hoursAMonth } = assumptions
  const own = use.calls
  const ms = use.ms + coldStarts.ms + own.reduce((sum, call) => sum + call.calls * networkMs[call.service], 0)
  const called = (service: string) => own.filter((call) => call.service === service)
  const count = (service: string) => called(service).reduce((sum, { units }) => sum + units, 0)
  const gigabytes = (runs * (use.logBytes + platformLogBytes)) / 1e9
  if (count('rds-data') > 0) throw new UnknownCost(`${id} keeps the database awake.`)
  const written = consumption.idle.metrics.filter((metric) => metric.includes(` service=turnkeep-${name} `))
  return [
    line('EventBridge', 'schedules', runs, 'schedulerInvocation'),
    line('Lambda', 'requests of schedules', runs, 'lambdaRequest'),
    line('Lambda', 'time of schedules', runs * gbSeconds(memoryOf(target), ms), 'lambdaGbSecond'),
    line('S3', 'looks of schedules', runs * count('s3'), 's3Write'),
    line('SQS', 'looks of schedules', runs * count('sqs'), 'sqsRequest'),
    line('CloudWatch', 'logs of schedules', gigabytes, 'logsGb'),
    line(
      'CloudWatch',
      'logs of schedules, kept',
      gigabytes * logCompression * monthsOfLogs(templates, name),
      'logsStoredGb',
    ),
    // Billed for the hours in which they are sent.
    line(
      'CloudWatch',
      'metrics of schedules',
      written.length * Math.min(1, runs / hoursAMonth),
      'customMetric',
    ),
    ...(name === 'archive' ? archiverLooks(templates) : []),
  ].filter(({ quantity }) => quantity > 0)
}

function withoutProvisionedConcurrency({ id, properties }: Found): Line[] {
  if (properties.ProvisionedConcurrencyConfig !== undefined)
    throw new UnknownCost(`${id} has provisioned concurrency, which has no price here.`)
  return []
}
