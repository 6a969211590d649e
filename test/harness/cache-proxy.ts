/**
 * Stands before a Valkey that speaks plain text and is asked about each command. Commands of one connection wait for each
 * other, as they do at the server.
 */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { join, resolve } from 'node:path'
import { createServer as createTlsServer } from 'node:tls'
import { inflateRawSync } from 'node:zlib'
import type { Script } from '../../lambdas/services/valkey.ts'

const SCRIPTS = resolve(import.meta.dirname, '../../lambdas/services/valkey-hot-store/scripts')

const PING = '*1\r\n$4\r\nPING\r\n'

export interface Command {
  /** The same object for all commands of a connection. */
  connection: { end(): void }
  /** A script by its name, anything else by its own. */
  operation: string
  /** Its arguments, those that are compressed as they were before. */
  text: string
  words: Buffer[]
  /** Of its answer, once that is there. */
  replyBytes: number
}

/** Asked before a command is sent on, when its reply is there, and when the client has it; while it has not answered, the command waits. A Buffer is said in its place. */
export type Passing = (
  moment: 'before' | 'after' | 'answered',
  command: Command,
) => Promise<Buffer | 'break' | 'pass'>

export interface CacheProxy {
  port: number
  close(): void
}

/** All scripts of the product, by their digest: one that is new there is known here. */
export async function namesOfScripts(): Promise<Map<string, string>> {
  const files = readdirSync(SCRIPTS).map((file) => import(join(SCRIPTS, file)))
  const exported = (await Promise.all(files)).flatMap((file): Partial<Script>[] => Object.values(file))
  return new Map(exported.flatMap(({ sha1, name }) => (sha1 && name ? [[sha1, name]] : [])))
}

/** Where a value of the protocol ends that begins here; undefined: not all of it has come. */
function endOf(bytes: Buffer, start: number): number | undefined {
  const line = bytes.indexOf('\r\n', start)
  if (line < 0) return undefined
  const type = String.fromCharCode(bytes[start] ?? 0)
  const count = Number(bytes.subarray(start + 1, line).toString())
  let end = line + 2
  if (type === '$' && count >= 0) end += count + 2
  for (let left = type === '*' ? count : 0; left > 0; left -= 1) {
    const next = endOf(bytes, end)
    if (next === undefined) return undefined
    end = next
  }
  return end <= bytes.length ? end : undefined
}

/** Each value of a stream as it was sent. */
async function* valuesOf(socket: Socket): AsyncGenerator<Buffer> {
  let rest: Buffer = Buffer.alloc(0)
  for await (const piece of socket) {
    rest = Buffer.concat([rest, piece])
    for (let end = endOf(rest, 0); end !== undefined && end > 0; end = endOf(rest, 0)) {
      yield rest.subarray(0, end)
      rest = rest.subarray(end)
    }
  }
}

/** Of a command, which is a list of texts. */
function wordsOf(bytes: Buffer): Buffer[] {
  const words: Buffer[] = []
  for (let at = bytes.indexOf('\r\n') + 2; at < bytes.length; ) {
    const line = bytes.indexOf('\r\n', at)
    const length = Number(bytes.subarray(at + 1, line).toString())
    words.push(bytes.subarray(line + 2, line + 2 + length))
    at = line + 2 + length + 2
  }
  return words
}

/** What the hot store has compressed stands alone, or behind a line of text. */
function textOf(word: Buffer): string {
  const body = word.indexOf('\n') + 1
  try {
    return word[body] === 0x7a
      ? `${word.subarray(0, body)}${inflateRawSync(word.subarray(body + 1))}`
      : word.toString()
  } catch {
    return word.toString()
  }
}

/** Before the server on this port of this machine. With a key and a certificate clients must speak TLS to it. */
export async function startCacheProxy(
  port: number,
  passing: Passing,
  tls?: { key: string; cert: string },
): Promise<CacheProxy> {
  const scripts = await namesOfScripts()
  const commandOf = (bytes: Buffer, connection: Command['connection']): Command => {
    const words = wordsOf(bytes)
    const [name = '', script = ''] = words.map(String)
    const digest = name === 'EVAL' ? createHash('sha1').update(script).digest('hex') : script
    const operation = name.startsWith('EVAL') ? (scripts.get(digest) ?? 'a script') : name
    return { connection, operation, text: words.map(textOf).join('\n'), words, replyBytes: 0 }
  }
  const sockets = new Set<Socket>()
  const serve = (client: Socket): void => {
    sockets.add(client)
    const upstream = connect(port, '127.0.0.1')
    const waiting: { command: Command; instead: Buffer | 'pass' }[] = []
    const end = (): void => {
      client.destroy()
      upstream.destroy()
      sockets.delete(client)
    }
    const connection = { end }
    for (const socket of [client, upstream]) socket.on('error', end).once('close', end).setNoDelay(true)
    const forward = async (): Promise<void> => {
      for await (const bytes of valuesOf(client)) {
        const command = commandOf(bytes, connection)
        const instead = await passing('before', command)
        if (instead === 'break') return end()
        waiting.push({ command, instead })
        // Answers come in order: the server is asked something, so that what is said instead keeps its place.
        upstream.write(instead === 'pass' ? bytes : PING)
      }
    }
    const answer = async (): Promise<void> => {
      for await (const bytes of valuesOf(upstream)) {
        const passed = waiting.shift()
        if (passed === undefined) return end()
        const { command, instead } = passed
        command.replyBytes = bytes.length
        const fate = instead === 'pass' ? await passing('after', command) : instead
        if (fate === 'break') return end()
        client.write(fate === 'pass' ? bytes : fate)
        if (fate === 'pass') void passing('answered', command)
      }
    }
    forward().catch(end)
    answer().catch(end)
  }
  const server = tls ? createTlsServer(tls, serve) : createServer(serve)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    close: () => {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}
