/** Counts for alarms, as CloudWatch's embedded metric format on the function's own output. */
import { Metrics, MetricUnit } from '@aws-lambda-powertools/metrics'
import type { Count } from '../protocol.ts'

export function openCount(serviceName: string): Count {
  const metrics = new Metrics({ namespace: 'Turnkeep', serviceName: `turnkeep-${serviceName}` })
  // Each by itself and at once: what is counted here is rare, and several invocations may share a process.
  return (name) => metrics.singleMetric().addMetric(name, MetricUnit.Count, 1)
}
