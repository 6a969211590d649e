/** Meters at the edge of the local cloud: what each function asks of which service, how long it runs, what passes. */
import type { Calls } from '../../lib/cost/consumption.ts'
import { FUNCTION_HEADER } from '../../local/function-header.ts'
import { type Exchange, type Meter, startMeter } from './meter.ts'

export interface Seen {
  calls: Call[]
  invocations: { function: string; ms: number; messages: number }[]
  viewer: Traffic[]
  model: Traffic[]
}
export interface Call extends Calls {
  /** Line and headers. */
  requestHeadBytes: number
  /** Of what a statement is given, a list is empty: so it is where a silent writer appends. */
  emptyList: boolean
}
export interface Traffic {
  ms: number
  sentBytes: number
  receivedBytes: number
}

export interface Edge {
  /** The functions' variables, with every address led through a meter. */
  environment: Record<string, string>
  /** The front door's, likewise. */
  address: string
  /** What was seen since it was asked last. */
  take(): Seen
  close(): Promise<void>
}

// https://aws.amazon.com/rds/aurora/pricing/ and https://aws.amazon.com/sqs/pricing/
const DATA_API_UNIT_BYTES = 32 * 1024
const SQS_UNIT_BYTES = 64 * 1024

type Cloud = { address: string; functionEnvironment: Record<string, string> }

const nothing = (): Seen => ({ calls: [], invocations: [], viewer: [], model: [] })

export async function openEdge({ address, functionEnvironment }: Cloud): Promise<Edge> {
  let seen = nothing()
  const meters: Meter[] = []
  const meter = async (...options: Parameters<typeof startMeter>) => {
    const started = await startMeter(...options)
    meters.push(started)
    return started.origin
  }
  const environment: Record<string, string> = { ...functionEnvironment }
  for (const [variable, target] of Object.entries(functionEnvironment)) {
    const service = SERVICES[variable]
    if (service === undefined) continue
    const rewriteBody = (body: Buffer, origin: string) =>
      Buffer.from(body.toString().replaceAll(origin, new URL(target).origin))
    environment[variable] = await meter({
      target,
      keep: { request: service === 'rds-data' },
      ...(service === 'sqs' ? { rewriteBody } : {}),
      seen: (exchange) => seen.calls.push(callOf(service, exchange)),
    })
  }
  // A client of SQS goes where the queue's URL leads.
  for (const variable of ['TURNS_QUEUE_URL', 'TURNS_DEAD_QUEUE_URL', 'JOBS_QUEUE_URL'])
    environment[variable] = (environment[variable] ?? '').replace(
      /^http:\/\/[^/]+/,
      environment.AWS_ENDPOINT_URL_SQS ?? '',
    )

  const baseUrl = new URL(functionEnvironment.OPENAI_BASE_URL ?? '')
  const model = await meter({
    target: baseUrl.origin,
    seen: (exchange) => seen.model.push(trafficOf(exchange)),
  })
  environment.OPENAI_BASE_URL = `${model}${baseUrl.pathname}`

  const functions = JSON.parse(functionEnvironment.TURNKEEP_FUNCTIONS ?? '{}')
  for (const [name, setting] of Object.entries<{ runtimeApi: string }>(functions)) {
    const startedAt = new Map<string, { at: number; messages: number }>()
    const origin = await meter({
      target: `http://${setting.runtimeApi}`,
      keep: { response: true },
      seen: (exchange) => {
        const id = idOf(exchange)
        if (exchange.method === 'GET')
          startedAt.set(id, { at: performance.now(), messages: messagesIn(exchange.responseBody) })
        else {
          const { at = 0, messages = 0 } = startedAt.get(id) ?? {}
          startedAt.delete(id)
          seen.invocations.push({ function: name, ms: performance.now() - at, messages })
        }
      },
    })
    functions[name] = { ...setting, runtimeApi: new URL(origin).host }
  }
  environment.TURNKEEP_FUNCTIONS = JSON.stringify(functions)

  return {
    environment,
    address: await meter({ target: address, seen: (exchange) => seen.viewer.push(trafficOf(exchange)) }),
    take: () => {
      const taken = seen
      seen = nothing()
      return taken
    },
    close: async () => {
      await Promise.all(meters.map((one) => one.close()))
    },
  }
}

const SERVICES: Record<string, Calls['service']> = {
  AWS_ENDPOINT_URL_RDS_DATA: 'rds-data',
  AWS_ENDPOINT_URL_SQS: 'sqs',
  AWS_ENDPOINT_URL_S3: 's3',
  AWS_ENDPOINT_URL_SECRETS_MANAGER: 'secretsmanager',
}

const trafficOf = (exchange: Exchange): Traffic => ({
  ms: exchange.ms,
  sentBytes: exchange.requestHeadBytes + exchange.requestBytes,
  receivedBytes: exchange.responseHeadBytes + exchange.responseBytes,
})

/** A poll's answer names its invocation in a header, what is sent back in its path. */
const idOf = ({ path, responseHeaders }: Exchange): string =>
  String(responseHeaders['lambda-runtime-aws-request-id'] ?? /\/invocation\/([^/]+)\//.exec(path)?.[1])

function callOf(service: Calls['service'], exchange: Exchange): Call {
  const { headers, requestHeadBytes, requestBytes, responseBytes } = exchange
  const bytes = requestBytes + responseBytes
  const units = {
    'rds-data': Math.max(1, Math.ceil(bytes / DATA_API_UNIT_BYTES)),
    sqs: Math.max(1, Math.ceil(requestBytes / SQS_UNIT_BYTES)),
    s3: 1,
    secretsmanager: 1,
  }
  return {
    function: String(headers[FUNCTION_HEADER] ?? '?'),
    service,
    operation: operationOf(service, exchange),
    calls: 1,
    units: units[service],
    requestHeadBytes,
    emptyList: exchange.requestBody.includes('"stringValue":"[]"'),
    requestBytes,
    responseBytes,
  }
}

function operationOf(service: Calls['service'], { method, headers, path, requestBody }: Exchange): string {
  if (service === 'rds-data') return /turnkeep\.(\w+)\(/.exec(requestBody)?.[1] ?? 'other SQL'
  if (service === 's3') return path.includes('list-type=2') ? 'List' : method
  return String(headers['x-amz-target']).replace(/^.*\./, '')
}

/** Of a batch for persist; 0 for any other event. */
function messagesIn(event: string): number {
  const { Records = [] } = JSON.parse(event || '{}') as { Records?: object[] }
  return Records.length
}
