/** One connection to one server of Valkey: made when it is needed, kept, renewed, and given up in time. */
import { createClient, ErrorReply, RESP_TYPES } from '@redis/client'
import { CodedError } from '../protocol/errors.ts'

export interface Endpoint {
  host: string
  port: number
}

export interface ConnectionOptions {
  /**
   * False: plain text, for a server on this machine. True: verified against the known authorities, or
   * against `ca`.
   */
  tls: boolean | { ca: string }
  username?: string
  /** Asked at each connection, so that a password that has a date is a fresh one. */
  password?: () => Promise<string>
  /** Milliseconds that an answer may take. */
  commandMs?: number
  /** Milliseconds that a connection may take to stand, TLS and login included. */
  connectMs?: number
  /** Milliseconds after a failure in which calls fail at once. */
  backOffMs?: number
  /** Milliseconds after which a connection is replaced by a new one: ElastiCache ends it after 12 hours. */
  maxAgeMs?: number
  /** Milliseconds of silence after which a connection is tried before it is used. */
  quietMs?: number
}

export type Argument = string | number | Buffer
export type Reply = string | number | null | Buffer | Reply[]

export interface SendOptions {
  /** Text comes as Buffers, which hold any bytes. */
  bytes?: boolean
  /** Not to be sent again where the connection breaks before the answer. */
  once?: boolean
}

/**
 * The cache cannot serve this now: no connection, no answer in time, or a server that says so of itself. It
 * is the same `unavailable` as any store's; what the server said, or the socket, is its cause.
 */
export class Unreachable extends CodedError {
  /** The command left this process: it may have been carried out. */
  readonly mayHaveRun: boolean
  constructor(cause: unknown, mayHaveRun: boolean) {
    super('unavailable', 'The cache cannot be reached right now.', { cause })
    this.name = 'Unreachable'
    this.mayHaveRun = mayHaveRun
  }
}

export interface Connection {
  /** Calls fail at once for now. */
  isDown(): boolean
  /** It has failed and has not stood since. */
  hasFailed(): boolean
  isConnected(): boolean
  /**
   * Sends commands in one go and answers with the last one's reply. Throws ErrorReply where the server
   * refuses it, and Unreachable. Commands of one tick leave together and in order. Where the connection
   * breaks before the answer they are sent once more, unless `once`.
   */
  send(commands: readonly (readonly Argument[])[], options?: SendOptions): Promise<Reply>
  /** Lets what is under way end. */
  close(): Promise<void>
}

const COMMAND_MS = 300
const CONNECT_MS = 1_000
const BACK_OFF_MS = 2_000
const MAX_AGE_MS = 11 * 3_600_000
/** A function may have been frozen since: what became of its connections meanwhile, nobody has told it. */
const QUIET_MS = 10_000

const BYTES = { [RESP_TYPES.BLOB_STRING]: Buffer }

function makeClient({ host, port }: Endpoint, { tls, username, password }: ConnectionOptions) {
  const { ca } = typeof tls === 'object' ? tls : {}
  const client = createClient({
    // Plain strings, numbers and arrays, as scripts see them too.
    RESP: 2,
    socket: {
      host,
      port,
      ...(tls ? { tls: true, ...(ca ? { ca } : {}) } : {}),
      // All of that is done here, by the clock and with nothing waiting in a queue.
      connectTimeout: 0,
      reconnectStrategy: false,
    },
    commandOptions: { timeout: 0 },
    disableOfflineQueue: true,
    // ElastiCache serverless has none of these commands.
    disableClientInfo: true,
    maintNotifications: 'disabled',
    ...(password
      ? {
          credentialsProvider: {
            type: 'async-credentials-provider',
            credentials: async () => ({ ...(username ? { username } : {}), password: await password() }),
          },
        }
      : {}),
  })
  client.on('error', () => undefined) // whoever waits for an answer is told
  client.unref()
  return client
}

type Client = ReturnType<typeof makeClient>

interface Standing {
  client: Client
  since: number
  usedAt: number
}

/**
 * What is late is given one more turn of the loop: the answer may be there, and this process was busy or
 * frozen.
 */
function within<Result>(ms: number, work: Promise<Result>, onLate: () => Error): Promise<Result> {
  return new Promise((resolve, reject) => {
    let waiting = true
    const end = (): void => {
      waiting = false
      clearTimeout(timer)
    }
    const timer = setTimeout(() => setImmediate(() => waiting && reject(onLate())), ms)
    work.then(resolve, reject).finally(end)
  })
}

/** Makes no connection yet. */
export function openConnection(endpoint: Endpoint, options: ConnectionOptions): Connection {
  const {
    commandMs = COMMAND_MS,
    connectMs = CONNECT_MS,
    backOffMs = BACK_OFF_MS,
    maxAgeMs = MAX_AGE_MS,
    quietMs = QUIET_MS,
  } = options
  const address = `${endpoint.host}:${endpoint.port}`
  let standing: Standing | undefined
  let connecting: Promise<Standing> | undefined
  let checking: Promise<Standing> | undefined
  let failure: unknown
  let failedAt = Number.NEGATIVE_INFINITY
  let closed = false

  const isDown = (): boolean => closed || Date.now() - failedAt < backOffMs
  const give = (client: Client): void => {
    if (standing?.client === client) standing = undefined
    client.destroy()
  }
  /** From now on calls fail at once. */
  const fail = (cause: unknown): void => {
    failure = cause
    failedAt = Date.now()
  }

  async function connect(): Promise<Standing> {
    const client = makeClient(endpoint, options)
    const late = () => new Error(`${address} took more than ${connectMs} ms to connect`)
    try {
      await within(connectMs, client.connect(), late)
    } catch (cause) {
      client.destroy()
      // An old connection that was to be replaced serves on.
      if (standing?.client.isReady) standing.since = Date.now() - maxAgeMs + backOffMs
      else fail(cause)
      throw new Unreachable(cause, false)
    }
    if (closed) client.destroy()
    failure = undefined
    const made = { client, since: Date.now(), usedAt: Date.now() }
    const old = standing?.client
    standing = made
    if (old?.isOpen) old.close().catch(() => undefined)
    return made
  }

  const connectOnce = (): Promise<Standing> => {
    connecting ??= connect().finally(() => {
      connecting = undefined
    })
    return connecting
  }

  /** A connection that has been silent for long may be gone without a word. */
  async function check(quiet: Standing): Promise<Standing> {
    try {
      await within(commandMs, quiet.client.sendCommand(['PING']), () => new Error('silent'))
      return quiet
    } catch {
      give(quiet.client)
      return connectOnce()
    }
  }

  function ready(): Promise<Standing> {
    if (isDown()) throw new Unreachable(failure ?? new Error('closed'), false)
    if (!standing?.client.isReady) return connectOnce()
    const now = Date.now()
    if (checking === undefined && now - standing.usedAt > quietMs)
      checking = check(standing).finally(() => {
        checking = undefined
      })
    // The old one serves until the new one stands.
    if (now - standing.since > maxAgeMs) connectOnce().catch(() => undefined)
    return checking ?? Promise.resolve(standing)
  }

  /** Undefined: the connection broke before the answer. */
  async function attempt(
    commands: readonly (readonly Argument[])[],
    bytes: boolean,
  ): Promise<{ reply: Reply } | { broken: unknown }> {
    const used = await ready()
    used.usedAt = Date.now()
    const sent = commands.map((command) =>
      used.client.sendCommand<Reply>(
        command.map((argument) => (typeof argument === 'number' ? String(argument) : argument)),
        bytes ? { typeMapping: BYTES } : {},
      ),
    )
    const answer = Promise.all(sent).then((replies) => ({ reply: replies.at(-1) ?? null }))
    let late = false
    try {
      return await within(commandMs, answer, () => {
        late = true
        return new Error(`${address} took more than ${commandMs} ms to answer`)
      })
    } catch (cause) {
      if (cause instanceof ErrorReply) throw cause
      if (late) fail(cause)
      // Answers come in order: behind one that is late, all are.
      give(used.client)
      if (late) throw new Unreachable(cause, true)
      return { broken: cause }
    }
  }

  return {
    isDown,
    hasFailed: () => failure !== undefined,
    isConnected: () => standing?.client.isReady === true,
    async send(commands, { bytes = false, once = false } = {}) {
      const first = await attempt(commands, bytes)
      if ('reply' in first) return first.reply
      if (once || isDown()) throw new Unreachable(first.broken, true)
      const second = await attempt(commands, bytes).catch((error: unknown) => {
        throw error instanceof Unreachable ? new Unreachable(error.cause, true) : error
      })
      if ('reply' in second) return second.reply
      fail(second.broken)
      throw new Unreachable(second.broken, true)
    },
    async close() {
      closed = true
      const client = standing?.client
      standing = undefined
      if (client?.isReady)
        await within(commandMs, client.close(), () => new Error('late')).catch(() => client.destroy())
    },
  }
}
