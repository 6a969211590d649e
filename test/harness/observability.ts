/** The dashboard and the alarms of an environment, synthesised by themselves, and what they name. */
import { rmSync } from 'node:fs'
import { App, Stack } from 'aws-cdk-lib'
import { Template } from 'aws-cdk-lib/assertions'
import * as cloudfront from 'aws-cdk-lib/aws-cloudfront'
import * as lambda from 'aws-cdk-lib/aws-lambda'
import * as logs from 'aws-cdk-lib/aws-logs'
import * as rds from 'aws-cdk-lib/aws-rds'
import * as sqs from 'aws-cdk-lib/aws-sqs'
import { Observability } from '../../lib/observability/observability.ts'
import { checkSettings, environments, type Settings } from '../../lib/settings.ts'
import { resolve, type Scope } from './cloudformation.ts'

type Properties = Record<string, unknown>

export interface NamedMetric {
  namespace: string
  name: string
  dimensions: Record<string, string>
}

export interface Observed {
  template: Template
  alarms: Properties[]
  widgets: { type: string; properties: Properties }[]
  /** Every metric that an alarm or a widget names. */
  metrics: NamedMetric[]
}

const REGION = 'eu-west-1'
const ACCOUNT = '111122223333'

export function synthesise(
  environment: keyof typeof environments,
  changes: Partial<Settings> = {},
  namespace = `Turnkeep/${environment}`,
): Observed {
  const app = new App()
  const stack = new Stack(app, 'stack', { env: { account: ACCOUNT, region: REGION } })
  const fn = (name: string) => lambda.Function.fromFunctionName(stack, name, name)
  const queue = (name: string) =>
    sqs.Queue.fromQueueArn(stack, name, `arn:aws:sqs:${REGION}:${ACCOUNT}:${name}`)
  new Observability(stack, 'Observability', {
    environment,
    namespace,
    functions: {
      chat: fn('chat'),
      api: fn('api'),
      persist: fn('persist'),
      maintain: fn('maintain'),
      jobs: fn('jobs'),
      migrate: fn('migrate'),
      archive: fn('archive'),
      rotate: fn('rotate'),
    },
    queues: {
      turns: queue('turns'),
      turnsDead: queue('turns-dead'),
      jobsDead: queue('jobs-dead'),
      schedulesDead: queue('schedules-dead'),
    },
    cluster: rds.DatabaseCluster.fromDatabaseClusterAttributes(stack, 'cluster', {
      clusterIdentifier: 'cluster',
    }),
    distribution: cloudfront.Distribution.fromDistributionAttributes(stack, 'site', {
      distributionId: 'site',
      domainName: 'site.example',
    }),
    answerLogs: ['chat', 'persist', 'maintain'].map((name) =>
      logs.LogGroup.fromLogGroupName(stack, `${name}-log`, `/aws/lambda/${name}`),
    ),
    settings: { ...checkSettings(environment, environments[environment]), ...changes },
  })
  const template = Template.fromStack(stack)
  rmSync(app.outdir, { recursive: true, force: true })
  const alarms = ofType(template, 'AWS::CloudWatch::Alarm')
  const widgets = ofType(template, 'AWS::CloudWatch::Dashboard').flatMap(
    ({ DashboardBody }) => JSON.parse(String(resolve(DashboardBody, names))).widgets as Observed['widgets'],
  )
  return { template, alarms, widgets, metrics: [...alarms.flatMap(ofAlarm), ...widgets.flatMap(ofWidget)] }
}

export const ofType = (template: Template, type: string): Properties[] =>
  Object.values(template.findResources(type)).map((resource) => resource.Properties ?? {})

/** References stand as their names. */
const names: Scope = {
  ref: (name) => name,
  attribute: (resource, attribute) => `${resource}.${attribute}`,
  imported: String,
  output: (stack, name) => `${stack}.${name}`,
}

interface AlarmMetric {
  Namespace?: string
  MetricName?: string
  Dimensions?: { Name: string; Value: string }[]
}

function ofAlarm(alarm: Properties): NamedMetric[] {
  const parts = alarm.Metrics as { MetricStat?: { Metric: AlarmMetric } }[] | undefined
  const found = parts ? parts.flatMap(({ MetricStat }) => MetricStat?.Metric ?? []) : [alarm as AlarmMetric]
  return found.map(({ Namespace = '', MetricName = '', Dimensions = [] }) => ({
    namespace: Namespace,
    name: MetricName,
    dimensions: Object.fromEntries(Dimensions.map(({ Name, Value }) => [Name, Value])),
  }))
}

/** [namespace, name, dimension, value, …, {options}], or an expression alone. */
function ofWidget({ properties }: Observed['widgets'][number]): NamedMetric[] {
  const rows = (properties.metrics ?? []) as unknown[][]
  return rows.flatMap((row) => {
    const [namespace, name, ...rest] = row.filter((item) => typeof item === 'string')
    if (namespace === undefined || name === undefined) return []
    const pairs = rest.flatMap((key, index) => (index % 2 === 0 ? [[key, rest[index + 1] ?? '']] : []))
    return [{ namespace, name, dimensions: Object.fromEntries(pairs) }]
  })
}
