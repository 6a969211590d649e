/**
 * Stands between the functions and everything that they call, so that faults can be aimed at one step of an answer
 * without a line of test code in the handlers. It knows a call by its wire format and stops at three moments of it.
 */
import { once } from 'node:events'
import {
  Agent,
  createServer,
  type IncomingMessage,
  request,
  type Server,
  type ServerResponse,
} from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Cloud } from '../../local/cloud/cloud.ts'
import { type CacheProxy, startCacheProxy } from '../harness/cache-proxy.ts'

export type Service = 'database' | 'queue' | 'bucket' | 'model' | 'cache'

/** before: nothing has happened yet. after: the effect is there, the caller has not heard. answered: it has. */
export const moments = ['before', 'after', 'answered'] as const
export type Moment = (typeof moments)[number]

export interface Passage {
  service: Service
  operation: string
  moment: Moment
  /** The request, for telling whose it is. */
  text: string
  /** The same object at each moment of one call. */
  call: object
}

/** `break` cuts the connection; a status is answered in place of the real answer, by the cache as an error of its own. */
export type Fate = 'pass' | 'break' | { status: number }

export interface FaultProxy {
  /** What the functions are given in place of the cloud's own addresses. */
  environment(cloud: Cloud): Promise<Record<string, string>>
  /** Asked at each moment of each call; while it has not answered, the call waits there. */
  decide: (passage: Passage) => Fate | Promise<Fate>
  close(): Promise<void>
}

export const passAll = (): Fate => 'pass'

/** As a server that starts. */
const CACHE_REFUSES = Buffer.from('-LOADING refused by the drill\r\n')

export function createFaultProxy(): FaultProxy {
  const servers: Server[] = []
  const caches: CacheProxy[] = []
  const agent = new Agent({ keepAlive: true })
  const open = async (service: Service, target: string): Promise<string> => {
    const server = createServer((incoming, outgoing) => {
      pass(service, new URL(target), incoming, outgoing).catch(() => outgoing.destroy())
    })
    server.keepAliveTimeout = 120_000 // never closes a connection just as it is used again
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    servers.push(server)
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  }

  /** False: the call ends here. */
  const stopAt = async (passage: Passage, outgoing: ServerResponse): Promise<boolean> => {
    const fate = await proxy.decide(passage)
    if (fate === 'pass') return true
    if (fate === 'break') outgoing.destroy()
    else
      outgoing
        .writeHead(fate.status, { 'content-type': 'application/json', 'x-amzn-errortype': 'Refused' })
        .end('{"message":"refused by the drill"}')
    return false
  }

  async function pass(service: Service, target: URL, incoming: IncomingMessage, outgoing: ServerResponse) {
    const body = Buffer.concat(await incoming.toArray())
    const text = `${decodeURIComponent(incoming.url ?? '')}\n${body.toString()}`
    const step = { service, operation: operationOf(service, incoming, body.toString()), text, call: incoming }
    if (!(await stopAt({ ...step, moment: 'before' }, outgoing))) return
    const forwarded = request({
      agent,
      hostname: target.hostname,
      port: target.port,
      method: incoming.method,
      path: incoming.url,
      headers: { ...incoming.headers, host: target.host },
    })
    // A caller that leaves a stream is what closes the model's connection.
    if (service === 'model') outgoing.once('close', () => forwarded.destroy())
    forwarded.on('error', () => outgoing.destroy())
    forwarded.end(body)
    const [answer] = (await once(forwarded, 'response')) as [IncomingMessage]
    // A stream passes as it comes; anything else is there as a whole before the caller hears of it.
    const whole = service === 'model' ? undefined : Buffer.concat(await answer.toArray())
    if (!(await stopAt({ ...step, moment: 'after' }, outgoing))) return void answer.destroy()
    outgoing.writeHead(answer.statusCode ?? 502, answer.headers)
    if (whole) outgoing.end(whole)
    else answer.pipe(outgoing)
    outgoing.once('finish', () => void proxy.decide({ ...step, moment: 'answered' }))
  }

  /** Of a cache that speaks plain text; one with TLS is reached directly. */
  const openCache = async (url: string): Promise<string> => {
    const cache = await startCacheProxy(Number(new URL(url).port), async (moment, call) => {
      const { operation, text } = call
      const fate = await proxy.decide({ service: 'cache', operation, moment, text, call })
      return typeof fate === 'object' ? CACHE_REFUSES : fate
    })
    caches.push(cache)
    const through = new URL(url)
    through.port = String(cache.port)
    return through.href
  }

  const proxy: FaultProxy = {
    decide: passAll,
    async environment({ functionEnvironment }) {
      const given = (name: string): string => functionEnvironment[name] ?? ''
      const database = await open('database', given('AWS_ENDPOINT_URL_RDS_DATA'))
      const queue = await open('queue', given('AWS_ENDPOINT_URL_SQS'))
      const bucket = await open('bucket', given('AWS_ENDPOINT_URL_S3'))
      const model = await open('model', given('OPENAI_BASE_URL'))
      const cache = given('VALKEY_URL')
      const through = (name: string, origin: string): string => `${origin}${new URL(given(name)).pathname}`
      return {
        AWS_ENDPOINT_URL_RDS_DATA: database,
        AWS_ENDPOINT_URL_SQS: queue,
        AWS_ENDPOINT_URL_S3: bucket,
        OPENAI_BASE_URL: through('OPENAI_BASE_URL', model),
        // The SDK sends to the host that a queue's URL names.
        TURNS_QUEUE_URL: through('TURNS_QUEUE_URL', queue),
        TURNS_DEAD_QUEUE_URL: through('TURNS_DEAD_QUEUE_URL', queue),
        JOBS_QUEUE_URL: through('JOBS_QUEUE_URL', queue),
        ...(cache.startsWith('redis://') && { VALKEY_URL: await openCache(cache) }),
      }
    },
    async close() {
      agent.destroy()
      for (const cache of caches) cache.close()
      for (const server of servers) {
        server.close()
        server.closeAllConnections()
      }
    },
  }
  return proxy
}

function operationOf(service: Service, { method, url = '', headers }: IncomingMessage, body: string): string {
  if (service === 'database') return /turnkeep\.(\w+)\(/.exec(body)?.[1] ?? 'sql'
  if (service === 'queue') return String(headers['x-amz-target'] ?? '').replace(/^.*\./, '')
  if (service === 'bucket') {
    const [, prefix = 'list'] = /^\/[^/]+\/([^/?]+)/.exec(url) ?? []
    return `${method} ${prefix}`
  }
  return 'answer'
}
