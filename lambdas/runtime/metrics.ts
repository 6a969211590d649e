/** What is measured, as CloudWatch's embedded metric format on the function's own output. */
import { Metrics } from '@aws-lambda-powertools/metrics'
import { type Count, type Measure, type Metric, metricUnits } from '../protocol/metrics.ts'
import type { Config } from './config.ts'

export interface Metering {
  count: Count
  measure: Measure
  /** Writes what was measured since; middy's `requestEnd`. */
  flush: () => void
}

/** What is broken then is not the function that meets it: of all functions together it is one series, and one to watch. */
const ownerOf: Partial<Record<Metric, string>> = { ArchiveUnreadable: 'archive' }

/**
 * The only dimension is the function: a tenant would cost 0.30 USD a month for each metric. Several invocations may
 * share a process; whichever ends first writes what all have measured so far, and each value leaves once. Values of
 * one metric leave as an array, 100 at most, which is when Powertools writes by itself.
 */
export function openMetrics(
  functionName: string,
  { metricsNamespace }: Config<'metricsNamespace'>,
): Metering {
  const open = (service: string) =>
    new Metrics({ namespace: metricsNamespace, serviceName: `turnkeep-${service}` })
  const metrics = open(functionName)
  return {
    count(name) {
      const owner = ownerOf[name]
      const counter = owner === undefined ? metrics : open(owner)
      counter.singleMetric().addMetric(name, metricUnits[name], 1)
    },
    measure(name, value) {
      // What is no number must not fail what it measures; tenths of a millisecond are enough.
      if (Number.isFinite(value)) metrics.addMetric(name, metricUnits[name], Math.round(value * 10) / 10)
    },
    flush() {
      if (metrics.hasStoredMetrics()) metrics.publishStoredMetrics()
    },
  }
}
