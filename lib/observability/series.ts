/** What a graph shows and an alarm watches: a metric of ours, by the function that emits it, or one that AWS keeps. */
import type { Metric } from '../../lambdas/protocol/metrics.ts'

export type Statistic = 'Sum' | 'Average' | 'Minimum' | 'Maximum' | 'SampleCount' | 'p50' | 'p90' | 'p99'

/** What AWS measures, by what it belongs to. */
export interface Measured {
  queue: 'turns' | 'turnsDead' | 'jobsDead' | 'schedulesDead'
  function: 'chat' | 'api' | 'persist' | 'maintain' | 'archive' | 'jobs' | 'migrate' | 'rotate'
  database: 'writer'
  distribution: 'site'
}

const SQS =
  'https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html'
const LAMBDA = 'https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html'
const FUNCTION_URL = 'https://docs.aws.amazon.com/lambda/latest/dg/urls-monitoring.html'
const AURORA =
  'https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/Aurora.AuroraMonitoring.Metrics.html'
const CLOUDFRONT =
  'https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/programming-cloudwatch-metrics.html'

/** Every metric of AWS that is used, and where it is documented: a name that does not exist is silent for ever. */
export const awsMetrics = {
  queueDepth: {
    of: 'queue',
    namespace: 'AWS/SQS',
    name: 'ApproximateNumberOfMessagesVisible',
    documented: SQS,
  },
  queueDelayed: {
    of: 'queue',
    namespace: 'AWS/SQS',
    name: 'ApproximateNumberOfMessagesDelayed',
    documented: SQS,
  },
  queueInHand: {
    of: 'queue',
    namespace: 'AWS/SQS',
    name: 'ApproximateNumberOfMessagesNotVisible',
    documented: SQS,
  },
  queueAge: { of: 'queue', namespace: 'AWS/SQS', name: 'ApproximateAgeOfOldestMessage', documented: SQS },
  invocations: { of: 'function', namespace: 'AWS/Lambda', name: 'Invocations', documented: LAMBDA },
  errors: { of: 'function', namespace: 'AWS/Lambda', name: 'Errors', documented: LAMBDA },
  throttles: { of: 'function', namespace: 'AWS/Lambda', name: 'Throttles', documented: LAMBDA },
  concurrency: { of: 'function', namespace: 'AWS/Lambda', name: 'ConcurrentExecutions', documented: LAMBDA },
  requests: { of: 'function', namespace: 'AWS/Lambda', name: 'UrlRequestCount', documented: FUNCTION_URL },
  clientErrors: { of: 'function', namespace: 'AWS/Lambda', name: 'Url4xxCount', documented: FUNCTION_URL },
  serverErrors: { of: 'function', namespace: 'AWS/Lambda', name: 'Url5xxCount', documented: FUNCTION_URL },
  databaseLoad: { of: 'database', namespace: 'AWS/RDS', name: 'ACUUtilization', documented: AURORA },
  databaseCapacity: {
    of: 'database',
    namespace: 'AWS/RDS',
    name: 'ServerlessDatabaseCapacity',
    documented: AURORA,
  },
  siteRequests: { of: 'distribution', namespace: 'AWS/CloudFront', name: 'Requests', documented: CLOUDFRONT },
  siteErrors: {
    of: 'distribution',
    namespace: 'AWS/CloudFront',
    name: '5xxErrorRate',
    documented: CLOUDFRONT,
  },
} as const satisfies Record<
  string,
  { of: keyof Measured; namespace: `AWS/${string}`; name: string; documented: string }
>
type AwsMetric = keyof typeof awsMetrics

/** Their dimension is `service`, alone. */
export interface OwnSeries {
  metric: Metric
  by: 'chat' | 'api' | 'persist' | 'maintain' | 'archive'
}
export type AwsSeries = {
  [Name in AwsMetric]: { aws: Name; of: Measured[(typeof awsMetrics)[Name]['of']] }
}[AwsMetric]

export type Series = (OwnSeries | AwsSeries) & { statistic: Statistic; label?: string }

/** Made of other series, which the expression knows by their names. */
export interface Calculated {
  expression: string
  of: Record<string, Series>
  label: string
}

/** What CloudWatch knows things by, which only a deployment tells. */
export interface MeasuredNames {
  /** METRICS_NAMESPACE of the functions. */
  namespace: string
  queue: (which: Measured['queue']) => string
  function: (which: Measured['function']) => string
  database: () => string
  distribution: () => string
}

/** Where CloudWatch keeps a series: the same for an alarm, a graph and whoever asks. */
export function placeOf(
  series: OwnSeries | AwsSeries,
  names: MeasuredNames,
): { namespace: string; metricName: string; dimensions: Record<string, string> } {
  if ('metric' in series)
    return {
      namespace: names.namespace,
      metricName: series.metric,
      dimensions: { service: `turnkeep-${series.by}` },
    }
  const { namespace, name, of } = awsMetrics[series.aws]
  return { namespace, metricName: name, dimensions: dimensionsOf[of](names[of](series.of as never)) }
}

const dimensionsOf: Record<keyof Measured, (name: string) => Record<string, string>> = {
  queue: (name) => ({ QueueName: name }),
  function: (name) => ({ FunctionName: name }),
  // Readers follow the writer's size, and would halve an average.
  database: (name) => ({ DBClusterIdentifier: name, Role: 'WRITER' }),
  distribution: (name) => ({ DistributionId: name, Region: 'Global' }),
}
