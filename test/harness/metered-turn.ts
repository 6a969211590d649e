/** One turn with a meter on every connection, and a model that speaks only when the client has heard what it said before. */
import { v7 as uuidv7 } from 'uuid'
import { openEdge } from '../../bench/turn/edge.ts'
import type { NumberedEvent } from '../../lambdas/protocol.ts'
import { type CacheProxy, startCacheProxy } from './cache-proxy.ts'
import { clientOf, type Reply, type StreamOptions } from './client.ts'
import { startPacedModel } from './paced-model.ts'
import { startRedis } from './redis.ts'
import { ACME, startTurnkeep, type Turnkeep } from './turnkeep.ts'

/** The watch comes a second later; a turn in step is over long before. */
const LEASE_SECONDS = 4
/** Watches come back once, or with a busy machine twice. */
const QUIET_MS = 60_000
const LOOK_MS = 50

/** By who asks for it, of which service, which operation. */
export interface Used {
  calls: number
  /** Bodies of requests and answers; of a cache, its commands and replies. */
  bytes: number
}

export interface MeteredTurn {
  reply: Reply
  used: Map<string, Used>
  /** What its rows hold, by table. */
  stored: Stored
  /** Of the stream, as the client reads it: its tokens, and everything else with the headers. */
  tokenBytes: number
  otherBytes: number
  /** Of the request to the model, with its headers. */
  promptBytes: number
}

export type Stored = Map<string, { rows: number; bytes: number }>

export interface MeteredProduct {
  turnkeep: Turnkeep
  /** Without a session: in a new one. */
  ask(question: string, answer: readonly string[], sessionId?: string): Promise<MeteredTurn>
  regenerate(messageId: string, answer: readonly string[]): Promise<MeteredTurn>
  close(): Promise<void>
}

export async function startMeteredProduct(name: string, inValkey: boolean): Promise<MeteredProduct> {
  await using started = new AsyncDisposableStack()
  let pieces: readonly string[] = []
  let heard = Promise.withResolvers<void>()
  const model = await startPacedModel(async function* () {
    for (const piece of pieces) {
      await heard.promise
      heard = Promise.withResolvers()
      yield [piece]
    }
    await heard.promise
  })
  started.defer(model.close)

  let used = new Map<string, Used>()
  const count = (key: string, bytes: number): void => {
    const before = used.get(key) ?? { calls: 0, bytes: 0 }
    used.set(key, { calls: before.calls + 1, bytes: before.bytes + bytes })
  }
  const redis = inValkey ? await startRedis('single') : undefined
  if (redis) started.defer(redis.close)
  let cache: CacheProxy | undefined
  if (redis)
    cache = await startCacheProxy(redis.nodes[0].port, async (moment, { operation, words, replyBytes }) => {
      const sent = words.reduce((sum, word) => sum + word.length, 0)
      if (moment === 'answered') count(`cache ${operation}`, sent + replyBytes)
      return 'pass'
    })
  if (cache) started.defer(cache.close)
  let edge: Awaited<ReturnType<typeof openEdge>> | undefined
  const turnkeep = await startTurnkeep({
    name,
    model: model.settings,
    ...(redis && { valkey: redis }),
    environment: async (cloud) => {
      edge = await openEdge(cloud)
      return {
        ...edge.environment,
        LEASE_SECONDS: String(LEASE_SECONDS),
        // Whatever can be checked is.
        RATE_LIMIT_USER: '1000000',
        TOKENS_TENANT_MONTH: '100000000',
        ...(cache && { VALKEY_URL: `redis://127.0.0.1:${cache.port}`, VALKEY_PATIENCE_MS: '5000' }),
      }
    },
  })
  started.defer(turnkeep.close)
  if (edge === undefined) throw new Error('there is no meter')
  const { take, address, close } = edge
  started.defer(close)
  const user = clientOf(address, { ...ACME, userId: 'u1', role: 'user' })

  async function measure(
    answer: readonly string[],
    stream: (options: StreamOptions) => Promise<Reply>,
  ): Promise<MeteredTurn> {
    pieces = answer
    heard = Promise.withResolvers()
    await user.token
    const before = await storedIn(turnkeep)
    take()
    used = new Map()
    let spoken = 0
    const reply = await stream({
      onEvent: async ({ event }) => {
        if (event.type === 'token') spoken += 1
        // The question is saved by itself before there is an answer to be saved with it.
        if (event.type === 'token' && spoken === 1) await turnkeep.drained()
        const isStep = event.type === 'token' || (event.type === 'status' && event.stage === 'answering')
        if (isStep) heard.resolve()
        return false
      },
    })
    if (reply.terminal?.type !== 'done')
      throw new Error(`A turn ended with ${JSON.stringify(reply.terminal ?? reply.error)}`)
    await quiet(turnkeep)
    const seen = take()
    for (const { function: name, service, operation, requestBytes, responseBytes } of seen.calls)
      count(`${name} ${service} ${operation}`, requestBytes + responseBytes)
    const tokenBytes = reply.events
      .filter(({ event }) => event.type === 'token')
      .reduce((sum, one) => sum + frameBytes(one), 0)
    const received = seen.viewer.reduce((sum, one) => sum + one.receivedBytes, 0)
    return {
      reply,
      used,
      stored: difference(before, await storedIn(turnkeep)),
      tokenBytes,
      otherBytes: received - tokenBytes,
      promptBytes: seen.model.reduce((sum, { sentBytes }) => sum + sentBytes, 0),
    }
  }
  const running = started.move()
  return {
    turnkeep,
    ask: (message, answer, sessionId) =>
      measure(answer, (options) => {
        const chat = { message, ...(sessionId && { sessionId }) }
        // Of this kind a cache knows by itself that it cannot be older than a day.
        return user.ask(chat, { ...options, headers: { 'idempotency-key': uuidv7() } })
      }),
    regenerate: (messageId, answer) =>
      measure(answer, (options) =>
        user.stream('POST', `/api/messages/${messageId}/regenerate`, undefined, options),
      ),
    close: () => running.disposeAsync(),
  }
}

/** As docs/protocol.md writes an event. */
const frameBytes = ({ id, event }: NumberedEvent): number =>
  Buffer.byteLength(`id: ${id}\ndata: ${JSON.stringify(event)}\n\n`)

/** Waits until everything is saved and nothing is watched any more. */
async function quiet({ cloud }: Turnkeep): Promise<void> {
  const until = Date.now() + QUIET_MS
  for (;;) {
    const { ready = [], delayed = [], inflight = [] } = cloud.fauxqs.inspectQueue('turns')?.messages ?? {}
    if (ready.length + delayed.length + inflight.length === 0) return
    if (Date.now() > until) throw new Error('The queue does not become empty.')
    await new Promise((wake) => setTimeout(wake, LOOK_MS))
  }
}

/** What all rows of all tables hold, without what Postgres puts around them: it is the same on every machine. */
async function storedIn({ rows }: Turnkeep): Promise<Stored> {
  const tables = await rows<{ name: string }>(
    `select relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' order by 1`,
  )
  const each = tables.map(
    ({ name }) =>
      `select '${name}' as name, count(*)::int as rows, coalesce(sum(pg_column_size(one.*)), 0)::int as bytes from public.${name} one`,
  )
  const sizes = await rows<{ name: string; rows: number; bytes: number }>(each.join(' union all '))
  return new Map(sizes.map(({ name, rows: count, bytes }) => [name, { rows: count, bytes }]))
}

const difference = (before: Stored, after: Stored): Stored =>
  new Map(
    [...after].flatMap(([name, { rows, bytes }]) => {
      const was = before.get(name) ?? { rows: 0, bytes: 0 }
      return rows === was.rows && bytes === was.bytes
        ? []
        : [[name, { rows: rows - was.rows, bytes: bytes - was.bytes }] as const]
    }),
  )
