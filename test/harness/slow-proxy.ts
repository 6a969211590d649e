/** A slow road to a TCP server: what a client sends and gets comes later, or never. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

export interface SlowProxy {
  port: number
  connections(): number
  /** From now on each piece takes so many milliseconds on its way to the server. */
  delay(ms: number): void
  /** The connections that stand say nothing any more and do not break; new ones are not concerned. */
  silence(): void
  /** The server hears what comes on them and its answers are kept back. */
  hold(): void
  /** They break. */
  cut(): void
  close(): Promise<void>
}

export async function startSlowProxy(port: number): Promise<SlowProxy> {
  const pairs = new Map<Socket, { upstream: Socket; silent: boolean; held: boolean }>()
  let delayMs = 0
  const server = createServer((client) => {
    const pair = { upstream: connect(port, '127.0.0.1'), silent: false, held: false }
    pairs.set(client, pair)
    client.on('data', (piece) => setTimeout(() => pair.silent || pair.upstream.write(piece), delayMs))
    pair.upstream.on('data', (piece) => pair.silent || pair.held || client.write(piece))
    for (const [socket, other] of [
      [client, pair.upstream],
      [pair.upstream, client],
    ] as const) {
      socket.on('error', () => {})
      socket.once('close', () => other.destroy())
    }
    client.once('close', () => pairs.delete(client))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const cut = (): void => {
    for (const client of pairs.keys()) client.destroy()
  }
  return {
    port: (server.address() as AddressInfo).port,
    connections: () => pairs.size,
    delay: (ms) => {
      delayMs = ms
    },
    silence: () => {
      for (const pair of pairs.values()) pair.silent = true
    },
    hold: () => {
      for (const pair of pairs.values()) pair.held = true
    },
    cut,
    close: async () => {
      const closed = once(server, 'close')
      server.close()
      cut()
      await closed
    },
  }
}
