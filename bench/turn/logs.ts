/** What the functions wrote, as CloudWatch would bill it. */

/** "Each log event is its text and 26 bytes": https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html */
const EVENT_OVERHEAD_BYTES = 26

export interface Written {
  /** By function. What names none is under `?`. */
  bytes: Record<string, number>
  /** Namespace, dimensions and name of each custom metric. */
  metrics: string[]
}

interface Line {
  service?: string
  function?: string
  _aws?: { CloudWatchMetrics: { Namespace: string; Dimensions: string[][]; Metrics: { Name: string }[] }[] }
}

export function read(output: string): Written {
  const bytes: Record<string, number> = {}
  const metrics = new Set<string>()
  for (const text of output.split('\n').filter(Boolean)) {
    const line = parse(text)
    const name = line?.service?.replace(/^turnkeep-/, '') ?? line?.function ?? '?'
    bytes[name] = (bytes[name] ?? 0) + Buffer.byteLength(text) + EVENT_OVERHEAD_BYTES
    for (const metric of line ? metricsOf(line) : []) metrics.add(metric)
  }
  return { bytes, metrics: [...metrics].sort() }
}

const metricsOf = (line: Line): string[] =>
  (line._aws?.CloudWatchMetrics ?? []).flatMap(({ Namespace, Dimensions, Metrics }) =>
    Dimensions.flatMap((names) => {
      const values = names.map((name) => `${name}=${(line as Record<string, unknown>)[name]}`)
      return Metrics.map(({ Name }) => `${Namespace} ${values.join(',')} ${Name}`)
    }),
  )

function parse(text: string): Line | undefined {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
