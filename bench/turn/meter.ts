/** HTTP proxies on loopback that count what passes: between the functions and their cloud, and around both. */
import { createServer, type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http'
import type { AddressInfo } from 'node:net'

/** One request and its answer, when both are over. */
export interface Exchange {
  method: string
  path: string
  headers: IncomingHttpHeaders
  status: number
  responseHeaders: IncomingHttpHeaders
  /** Bodies. */
  requestBytes: number
  responseBytes: number
  /** From the request's first byte to the answer's last. */
  ms: number
  /** Lines and headers as HTTP/1.1 writes them. */
  requestHeadBytes: number
  responseHeadBytes: number
  /** Only where `keep` asks for them. */
  requestBody: string
  responseBody: string
}

export interface Meter {
  /** The target's, by way of the meter. */
  origin: string
  close(): Promise<void>
}

interface Options {
  target: string
  /** Bodies are kept for `seen`; large ones cost memory. */
  keep?: { request?: boolean; response?: boolean }
  /** The functions know a queue by an address of the meter, the queue itself by its own. */
  rewriteBody?: (body: Buffer, meter: string) => Buffer
  seen(exchange: Exchange): void
}

const headBytes = (first: string, headers: readonly string[]): number =>
  headers.reduce((sum, text) => sum + text.length + 2, first.length + 4)

export async function startMeter({ target, keep = {}, rewriteBody, seen }: Options): Promise<Meter> {
  const { hostname, port } = new URL(target)
  let origin = ''
  const server = createServer(async (incoming, response) => {
    const startedAt = performance.now()
    response.on('error', () => undefined)
    const { method = '', url = '', headers, rawHeaders } = incoming
    const kept = rewriteBody === undefined ? undefined : rewriteBody(await bodyOf(incoming), origin)
    const sent = counter(keep.request)
    const received = counter(keep.response)
    const outgoing = request({
      hostname,
      port,
      path: url,
      method,
      headers: kept === undefined ? headers : { ...headers, 'content-length': String(kept.length) },
    })
    outgoing.on('error', () => response.destroy())
    response.on('close', () => {
      if (!response.writableFinished) outgoing.destroy()
    })
    outgoing.on('response', (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.rawHeaders)
      response.flushHeaders()
      answer.on('data', received.add)
      answer.on('end', () =>
        seen({
          method,
          path: url,
          headers,
          status: answer.statusCode ?? 0,
          responseHeaders: answer.headers,
          ms: performance.now() - startedAt,
          requestBytes: sent.bytes(),
          responseBytes: received.bytes(),
          requestHeadBytes: headBytes(`${method} ${url} HTTP/1.1`, rawHeaders),
          responseHeadBytes: headBytes('HTTP/1.1 200 OK', answer.rawHeaders),
          requestBody: sent.text(),
          responseBody: received.text(),
        }),
      )
      answer.pipe(response)
    })
    if (kept === undefined) {
      incoming.on('data', sent.add)
      incoming.pipe(outgoing)
    } else {
      sent.add(kept)
      outgoing.end(kept)
    }
  })
  server.requestTimeout = 0
  server.keepAliveTimeout = 0 // closing an idle connection races with the next request on it
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    origin,
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      server.closeAllConnections()
      await closed
    },
  }
}

function counter(keep = false) {
  let bytes = 0
  const chunks: Buffer[] = []
  return {
    add: (chunk: Buffer) => {
      bytes += chunk.length
      if (keep) chunks.push(chunk)
    },
    bytes: () => bytes,
    text: () => Buffer.concat(chunks).toString(),
  }
}

async function bodyOf(incoming: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of incoming) chunks.push(chunk)
  return Buffer.concat(chunks)
}
