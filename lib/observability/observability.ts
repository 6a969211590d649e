import { CfnOutput, Duration, RemovalPolicy, Stack } from 'aws-cdk-lib'
import type * as cloudfront from 'aws-cdk-lib/aws-cloudfront'
import * as cloudwatch from 'aws-cdk-lib/aws-cloudwatch'
import { SnsAction } from 'aws-cdk-lib/aws-cloudwatch-actions'
import * as iam from 'aws-cdk-lib/aws-iam'
import * as kms from 'aws-cdk-lib/aws-kms'
import type * as lambda from 'aws-cdk-lib/aws-lambda'
import type * as logs from 'aws-cdk-lib/aws-logs'
import type * as rds from 'aws-cdk-lib/aws-rds'
import * as sns from 'aws-cdk-lib/aws-sns'
import { EmailSubscription } from 'aws-cdk-lib/aws-sns-subscriptions'
import type * as sqs from 'aws-cdk-lib/aws-sqs'
import { Construct } from 'constructs'
import type { Settings } from '../settings.ts'
import { type Alarm, alarms } from './alarms.ts'
import { type AnswerTable, type Graph, rows, type Widget } from './dashboard.ts'
import {
  awsMetrics,
  type Calculated,
  type Measured,
  type MeasuredNames,
  placeOf,
  type Series,
} from './series.ts'

export interface ObservabilityProps {
  environment: string
  /** The functions' METRICS_NAMESPACE. */
  namespace: string
  functions: Record<Measured['function'], lambda.IFunction>
  queues: Record<Measured['queue'], sqs.IQueue>
  cluster: rds.IDatabaseCluster
  distribution: cloudfront.IDistribution
  /** Of the functions that end answers. */
  answerLogs: logs.ILogGroup[]
  settings: Pick<Settings, 'alarmEmail' | 'database' | 'model' | 'phase'>
}

const ROW_UNITS = 24
const GRAPH_HEIGHT = 6
/** CloudFront counts there, wherever the stack is. */
const CLOUDFRONT_REGION = 'us-east-1'

/** The dashboard and the alarms of one environment. Alarms are told to whoever `alarmEmail` names; without it, shown. */
export class Observability extends Construct {
  readonly dashboard: cloudwatch.Dashboard
  /** Absent where nobody is to be told. */
  readonly topic: sns.Topic | undefined
  private readonly props: ObservabilityProps
  private readonly alarms = new Map<string, cloudwatch.Alarm>()

  constructor(scope: Construct, id: string, props: ObservabilityProps) {
    super(scope, id)
    this.props = props
    const { alarmEmail } = props.settings
    if (alarmEmail !== undefined) this.topic = this.addTopic(alarmEmail)
    for (const [name, alarm] of Object.entries(this.kept())) this.alarms.set(name, this.addAlarm(name, alarm))
    this.dashboard = new cloudwatch.Dashboard(this, 'Dashboard', {
      defaultInterval: Duration.hours(12),
      widgets: rows.map((row) => this.toRow(row)).filter((row) => row.length > 0),
    })
    const { region } = Stack.of(this)
    new CfnOutput(this, 'DashboardUrl', {
      value: `https://${region}.console.aws.amazon.com/cloudwatch/home?region=${region}#dashboards/dashboard/${this.dashboard.dashboardName}`,
    })
  }

  /** A database that sleeps, or a cache that is there, has nothing to say about moving to one. */
  private kept(): Record<string, Alarm> {
    const { phase, database } = this.props.settings
    const signalled = phase === 1 && database.pauseAfterMinutes === undefined
    return Object.fromEntries(Object.entries(alarms).filter(([, { kind }]) => kind === 'fault' || signalled))
  }

  private addAlarm(name: string, alarm: Alarm): cloudwatch.Alarm {
    const made = new cloudwatch.Alarm(this, name, {
      alarmDescription: `${alarm.meaning} What to do: docs/runbook.md#${name} (turnkeep ${this.props.environment})`,
      metric: this.toMetric(alarm.watches, Duration.seconds(alarm.periodSeconds)),
      threshold: alarm.above ?? alarm.below ?? 0,
      comparisonOperator:
        alarm.below === undefined
          ? cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD
          : cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
      evaluationPeriods: alarm.periods,
      treatMissingData:
        alarm.silence === 'ok'
          ? cloudwatch.TreatMissingData.NOT_BREACHING
          : cloudwatch.TreatMissingData.BREACHING,
    })
    // Nothing on the way back to OK: every alarm would send one mail at the first deployment.
    if (this.topic && alarm.kind === 'fault') made.addAlarmAction(new SnsAction(this.topic))
    return made
  }

  /** For CloudWatch's alarms of this account to write to, encrypted on the way and at rest. */
  private addTopic(email: string): sns.Topic {
    const { account, partition, region } = Stack.of(this)
    const alarmsOfHere = {
      principals: [new iam.ServicePrincipal('cloudwatch.amazonaws.com')],
      conditions: {
        StringEquals: { 'aws:SourceAccount': account },
        ArnLike: { 'aws:SourceArn': `arn:${partition}:cloudwatch:${region}:${account}:alarm:*` },
      },
    }
    // CloudWatch may not use the key that AWS manages for SNS. It protects nothing that outlives a notification.
    const key = new kms.Key(this, 'Key', { enableKeyRotation: true, removalPolicy: RemovalPolicy.DESTROY })
    key.addToResourcePolicy(
      new iam.PolicyStatement({
        ...alarmsOfHere,
        actions: ['kms:Decrypt', 'kms:GenerateDataKey*'],
        resources: ['*'],
      }),
    )
    const topic = new sns.Topic(this, 'Topic', {
      displayName: `turnkeep ${this.props.environment}`,
      masterKey: key,
      enforceSSL: true,
    })
    topic.addToResourcePolicy(
      new iam.PolicyStatement({ ...alarmsOfHere, actions: ['sns:Publish'], resources: [topic.topicArn] }),
    )
    topic.addSubscription(new EmailSubscription(email))
    return topic
  }

  /** A row is as wide as the dashboard, whatever it holds. */
  private toRow(row: Widget[]): cloudwatch.IWidget[] {
    const width = ROW_UNITS / row.length
    return row.flatMap((widget) => this.toWidget(widget, width) ?? [])
  }

  private toWidget(widget: Widget, width: number): cloudwatch.IWidget | undefined {
    if ('series' in widget) return this.toGraph(widget, width)
    if ('query' in widget) return this.toTable(widget, width)
    const listed = [...this.alarms].filter(([name]) => alarms[name]?.kind === widget.alarms)
    if (listed.length === 0) return undefined
    return new cloudwatch.AlarmStatusWidget({
      title: widget.title,
      alarms: listed.map(([, alarm]) => alarm),
      width,
      height: 3,
    })
  }

  private toGraph(
    { title, series, unit, line, stacked = false }: Graph,
    width: number,
  ): cloudwatch.GraphWidget {
    return new cloudwatch.GraphWidget({
      title,
      left: series.map((one) => this.toMetric(one, Duration.minutes(5))),
      leftYAxis: { label: unit, min: 0, showUnits: false },
      stacked,
      ...(line ? { leftAnnotations: [line] } : {}),
      width,
      height: GRAPH_HEIGHT,
    })
  }

  private toTable({ title, query }: AnswerTable, width: number): cloudwatch.LogQueryWidget {
    const { answerLogs, settings } = this.props
    const { price } = settings.model
    return new cloudwatch.LogQueryWidget({
      title: `${title} (prices of ${price.asOf})`,
      logGroupNames: answerLogs.map(({ logGroupName }) => logGroupName),
      queryLines: ['filter message = "answer ended"', ...query(price)],
      width,
      height: GRAPH_HEIGHT,
    })
  }

  private toMetric(series: Series | Calculated, period: Duration): cloudwatch.IMetric {
    const { label } = series
    if ('expression' in series)
      return new cloudwatch.MathExpression({
        expression: series.expression,
        usingMetrics: Object.fromEntries(
          Object.entries(series.of).map(([name, one]) => [name, this.toMetric(one, period)]),
        ),
        label: series.label,
        period,
      })
    const common = { statistic: series.statistic, period, ...(label ? { label } : {}) }
    const { namespace, metricName, dimensions } = placeOf(series, this.names())
    const isElsewhere = 'aws' in series && awsMetrics[series.aws].of === 'distribution'
    return new cloudwatch.Metric({
      namespace,
      metricName,
      dimensionsMap: dimensions,
      ...(isElsewhere && { region: CLOUDFRONT_REGION }),
      ...common,
    })
  }

  private names(): MeasuredNames {
    const { namespace, functions, queues, cluster, distribution } = this.props
    return {
      namespace,
      queue: (which) => queues[which].queueName,
      function: (which) => functions[which].functionName,
      database: () => cluster.clusterIdentifier,
      distribution: () => distribution.distributionId,
    }
  }
}
