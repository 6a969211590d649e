/**
 * What AWS has and one machine has not: CloudWatch's GetMetricData and ElastiCache's three calls about serverless caches and
 * their snapshots, in the wire protocols of the SDK (JSON 1.0, and query with XML). Answers, limits and errors are as
 * documented; nobody has compared them with AWS (docs/aws-checks.md).
 */
import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type CloudWatch, createCloudWatch } from './cloudwatch.ts'
import { createElastiCache, type ElastiCache } from './elasticache.ts'

export interface Asked {
  service: 'monitoring' | 'elasticache'
  action: string
  region: string
  input: Record<string, unknown>
}

/** As AWS words it. */
export interface Refusal {
  status: number
  code: string
  message: string
}

export interface Answered {
  status: number
  headers: Record<string, string>
  body: string
}

export interface ControlPlanes {
  cloudWatch: CloudWatch
  elastiCache: ElastiCache
  /** Every call, refused ones included. */
  asked: Asked[]
  /** Asked about every call first; what it returns is the answer. */
  refuse: (call: Asked) => Refusal | undefined
  /** Variables that lead a command here. */
  environment: Record<string, string>
  close(): Promise<void>
}

export async function startControlPlanes(): Promise<ControlPlanes> {
  const cloudWatch = createCloudWatch()
  const elastiCache = createElastiCache()
  const server = createServer(async (request, response) => {
    const { service, region } = signedFor(request)
    const text = await textOf(request)
    const [action, input] = service === 'monitoring' ? fromJson(request, text) : fromQuery(text)
    const call = { service, action, region, input }
    planes.asked.push(call)
    const plane = service === 'monitoring' ? cloudWatch : elastiCache
    const refusal = planes.refuse(call)
    const { status, headers, body } = refusal ? plane.refused(refusal) : plane.answer(action, input)
    response
      .writeHead(status, { ...headers, 'x-amzn-requestid': 'a5f0c0de-0000-4000-8000-000000000000' })
      .end(body)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const planes: ControlPlanes = {
    cloudWatch,
    elastiCache,
    asked: [],
    refuse: () => undefined,
    environment: { AWS_ENDPOINT_URL_CLOUDWATCH: url, AWS_ENDPOINT_URL_ELASTICACHE: url },
    async close() {
      server.closeAllConnections()
      server.close()
    },
  }
  return planes
}

/** An unsigned request is a mistake of the command's, which no test may overlook. */
function signedFor({ headers }: IncomingMessage): { service: Asked['service']; region: string } {
  const scope = /^AWS4-HMAC-SHA256 Credential=[^/]+\/\d{8}\/([\w-]+)\/(\w+)\/aws4_request/
  const [, region = '', service = ''] = scope.exec(headers.authorization ?? '') ?? []
  if (service !== 'monitoring' && service !== 'elasticache') throw new Error(`signed for '${service}'`)
  return { service, region }
}

async function textOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

function fromJson({ headers }: IncomingMessage, text: string): [string, Record<string, unknown>] {
  const [target = '', action = ''] = String(headers['x-amz-target']).split('.')
  if (target !== 'GraniteServiceVersion20100801') throw new Error(`meant for ${target}`)
  return [action, JSON.parse(text)]
}

function fromQuery(text: string): [string, Record<string, unknown>] {
  const { Action = '', Version, ...input } = Object.fromEntries(new URLSearchParams(text))
  if (Version !== '2015-02-02') throw new Error(`meant for version ${Version}`)
  return [Action, input]
}
