/**
 * One turn with a meter on every connection of the functions, and a model that speaks only when the client has heard what it
 * said before. A connection that no meter stands on is told.
 */
import { resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { SendMessageCommand, SQSClient } from '@aws-sdk/client-sqs'
import { v7 as uuidv7 } from 'uuid'
import { type Call, openEdge, type Traffic } from '../../bench/turn/edge.ts'
import { startMeter } from '../../bench/turn/meter.ts'
import type { NumberedEvent } from '../../lambdas/protocol/chat.ts'
import { type CacheProxy, type Command, startCacheProxy } from './cache-proxy.ts'
import { clientOf, type Reply, type StreamOptions } from './client.ts'
import { startPacedModel } from './paced-model.ts'
import { startRedis } from './redis.ts'
import { ACME, startTurnkeep, type Turnkeep } from './turnkeep.ts'

const CONNECTIONS = resolve(import.meta.dirname, '../fixtures/connections-made.ts')
/** No turn is so slow that its lease runs out, or that its watch comes by itself: it is brought when the turn is over. */
const LEASE_SECONDS = 300
/** Some calls are not waited for: so long nothing may have been seen. */
const SETTLED_MS = 200

/** By who asks for it, of which service, which operation. */
export interface Used {
  calls: number
  /** Of requests with their headers, and of what answers hold; of a cache, its commands and replies; to the model alone. */
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
  /** Where the functions have connected to and no meter stands, ever since they were started. */
  unmetered: string[]
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
    cache = await startCacheProxy(redis.nodes[0].port, async (moment, command) => {
      const sent = command.words.reduce((sum, word) => sum + word.length, 0)
      if (moment === 'answered') count(`cache ${cacheOperation(command)}`, sent + command.replyBytes)
      return 'pass'
    })
  if (cache) started.defer(cache.close)
  let edge: Awaited<ReturnType<typeof openEdge>> | undefined
  /** Where a meter stands, as host:port. */
  const metered = new Set<string>()
  const turnkeep = await startTurnkeep({
    name,
    model: model.settings,
    ...(redis && { valkey: redis }),
    environment: async (cloud) => {
      edge = await openEdge(cloud)
      const keys = new URL(cloud.functionEnvironment.AUTH_JWKS_URL ?? '')
      const issuer = await startMeter({
        target: keys.origin,
        seen: ({ requestHeadBytes, responseBytes }) =>
          count('the issuer of tokens', requestHeadBytes + responseBytes),
      })
      started.defer(issuer.close)
      const environment: Record<string, string> = {
        ...edge.environment,
        AUTH_JWKS_URL: `${issuer.origin}${keys.pathname}`,
      }
      const functions = JSON.parse(environment.TURNKEEP_FUNCTIONS ?? '{}')
      for (const { runtimeApi } of Object.values<{ runtimeApi: string }>(functions)) metered.add(runtimeApi)
      for (const [variable, before] of Object.entries(cloud.functionEnvironment)) {
        const address = environment[variable] ?? before
        if (address !== before && URL.canParse(address)) metered.add(new URL(address).host)
      }
      if (cache) metered.add(`127.0.0.1:${cache.port}`)
      return {
        ...environment,
        NODE_OPTIONS: `--import=${CONNECTIONS}`,
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
  const watches = openWatches(turnkeep)
  started.defer(watches.close)
  const user = clientOf(address, { ...ACME, userId: 'u1', role: 'user' })

  /** Counts what the meters have seen, until they see nothing more; returns what the client got. */
  async function settled(): Promise<Traffic[]> {
    const viewer: Traffic[] = []
    const look = (): number => {
      const seen = take()
      viewer.push(...seen.viewer)
      for (const call of seen.calls)
        count(
          `${call.function} ${call.service} ${operationOf(call)}`,
          call.requestHeadBytes + call.requestBytes + call.responseBytes,
        )
      for (const { sentBytes } of seen.model) count('the model', sentBytes)
      return [...used.values()].reduce((sum, { calls }) => sum + calls, 0)
    }
    for (let before = -1, now = look(); now !== before; now = look()) {
      before = now
      await sleep(SETTLED_MS)
    }
    return viewer
  }

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
    await turnkeep.drained()
    await watches.bring()
    const viewer = await settled()
    const tokenBytes = reply.events
      .filter(({ event }) => event.type === 'token')
      .reduce((sum, one) => sum + frameBytes(one), 0)
    const received = viewer.reduce((sum, one) => sum + one.receivedBytes, 0)
    return {
      reply,
      used,
      stored: difference(before, await storedIn(turnkeep)),
      tokenBytes,
      otherBytes: received - tokenBytes,
      unmetered: connections(turnkeep).filter((to) => !metered.has(to)),
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

/** Gives persist the watches that wait in the queue, each once, as the queue would when their time has come. */
function openWatches({ cloud, drained }: Turnkeep) {
  const sqs = new SQSClient({
    region: 'us-east-1',
    endpoint: cloud.fauxqs.address,
    credentials: { accessKeyId: 'local', secretAccessKey: 'local' },
  })
  const brought = new Set<string>()
  return {
    async bring(): Promise<void> {
      const { delayed = [] } = cloud.fauxqs.inspectQueue('turns')?.messages ?? {}
      for (const { messageId, body, messageGroupId } of delayed) {
        if (brought.has(messageId)) continue
        brought.add(messageId)
        await sqs.send(
          new SendMessageCommand({
            QueueUrl: cloud.fauxqs.queueUrl('turns'),
            MessageBody: body,
            MessageGroupId: messageGroupId,
          }),
        )
      }
      await drained()
    },
    close: () => sqs.destroy(),
  }
}

/** What time adds by itself has a name of its own. A silent writer appends nothing, to look whether it should stop. */
const NOTHING = ' of nothing'
const operationOf = ({ operation, emptyList }: Call): string =>
  operation === 'append_events' && emptyList ? operation + NOTHING : operation
/** Script, keys, turn, epoch and lease; batches come behind. */
const WORDS_OF_AN_APPEND = 9
function cacheOperation({ operation, words }: Command): string {
  if (operation === 'append' && words.length === WORDS_OF_AN_APPEND) return operation + NOTHING
  return String(words[1]).endsWith(':settings') ? `${operation} settings` : operation
}

/** Where the functions have connected to, as host:port. */
const connections = ({ output }: Turnkeep): string[] => [
  ...new Set(Array.from(output().matchAll(/^connects to (.+)$/gm), ([, to = '']) => to)),
]

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
