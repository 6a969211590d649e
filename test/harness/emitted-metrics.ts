/** The metrics in what functions have written: CloudWatch's embedded metric format, read as CloudWatch reads it. */
export interface EmittedMetric {
  namespace: string
  dimensions: Record<string, string>
  name: string
  unit: string
  values: number[]
}

export type Line = Record<string, unknown>

interface Embedded {
  CloudWatchMetrics: {
    Namespace: string
    Dimensions: string[][]
    Metrics: { Name: string; Unit: string }[]
  }[]
}

/** A line that is not JSON throws. */
export const linesOf = (output: string): Line[] =>
  output
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))

/** Each set of dimensions is a metric of its own. */
export const metricsOf = (lines: readonly Line[]): EmittedMetric[] =>
  lines.flatMap((line) =>
    ((line._aws as Embedded | undefined)?.CloudWatchMetrics ?? []).flatMap(
      ({ Namespace, Dimensions, Metrics }) =>
        Dimensions.flatMap((set) =>
          Metrics.map(({ Name, Unit }) => ({
            namespace: Namespace,
            dimensions: Object.fromEntries(set.map((dimension) => [dimension, String(line[dimension])])),
            name: Name,
            unit: Unit,
            values: [line[Name]].flat() as number[],
          })),
        ),
    ),
  )
