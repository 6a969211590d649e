/**
 * Decides which of several processes gets the next invocation: it stands between a process and the Runtime API and
 * keeps its questions for work back while it is shut. A process that is frozen would otherwise still be given some.
 */
import { once } from 'node:events'
import {
  type ClientRequest,
  createServer,
  type IncomingMessage,
  request,
  type ServerResponse,
} from 'node:http'
import type { AddressInfo } from 'node:net'

export interface Turnstile {
  /** host:port, in place of the Runtime API's. */
  address: string
  open(): void
  /** What was asked and is not answered yet is taken back. */
  shut(): void
  close(): void
}

export async function startTurnstile(runtimeApi: string): Promise<Turnstile> {
  const [hostname, port] = runtimeApi.split(':')
  const asking = new Map<ClientRequest, () => void>()
  const takenBack = new WeakSet<ClientRequest>()
  let isOpen = false
  let opened = Promise.withResolvers<void>()

  const forward = (incoming: IncomingMessage): ClientRequest =>
    request({
      hostname,
      port,
      method: incoming.method,
      path: incoming.url,
      headers: incoming.headers,
      agent: false,
    })

  async function pass(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const asksForWork = incoming.method === 'GET'
    if (asksForWork) await opened.promise
    if (outgoing.destroyed) return
    const forwarded = forward(incoming)
    if (asksForWork) asking.set(forwarded, () => void pass(incoming, outgoing))
    outgoing.once('close', () => forwarded.destroy())
    forwarded.on('error', () => {
      if (!takenBack.has(forwarded)) outgoing.destroy()
    })
    forwarded.once('response', (answer) => {
      asking.delete(forwarded)
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers)
      outgoing.flushHeaders()
      answer.pipe(outgoing)
    })
    if (asksForWork) forwarded.end()
    else incoming.pipe(forwarded)
  }

  const server = createServer((incoming, outgoing) => void pass(incoming, outgoing))
  server.requestTimeout = 0
  server.keepAliveTimeout = 0
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    open: () => {
      isOpen = true
      opened.resolve()
    },
    shut: () => {
      if (!isOpen) return
      isOpen = false
      opened = Promise.withResolvers()
      for (const [forwarded, again] of asking) {
        takenBack.add(forwarded)
        forwarded.destroy()
        again()
      }
      asking.clear()
    },
    close: () => {
      server.close()
      server.closeAllConnections()
    },
  }
}
