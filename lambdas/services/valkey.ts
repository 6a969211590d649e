/**
 * Valkey, or Redis 7 and newer: one server, or a cluster. It is lazy, it outlives invocations, it keeps no
 * process alive, and nothing waits for it longer than two connections and two answers may take. It finds the
 * servers of a cluster by itself: the cluster client of @redis/client has no time limit for a command that
 * was sent, nor for a login.
 */
import { createHash } from 'node:crypto'
import { ErrorReply } from '@redis/client'
import {
  type Argument,
  type Connection,
  type ConnectionOptions,
  type Endpoint,
  openConnection,
  type Reply,
  type SendOptions,
  Unreachable,
} from './valkey-connection.ts'
import { readSlots, redirection, type SlotMap, slotOf } from './valkey-slots.ts'

export {
  type Argument,
  type Endpoint,
  type Reply,
  type SendOptions,
  Unreachable,
} from './valkey-connection.ts'

export interface ValkeyOptions extends ConnectionOptions {
  /** Of a cluster any of its servers; the others are found through them. */
  endpoints: readonly [Endpoint, ...Endpoint[]]
  cluster: boolean
}

export interface Script {
  name: string
  lua: string
  sha1: string
}

/**
 * At least one, all of one slot, and every key that the script touches: ElastiCache serverless refuses
 * others.
 */
export type Keys = readonly [string, ...string[]]

export type Call = SendOptions &
  ({ command: string; key: string } | { script: Script; keys: Keys }) & { args?: readonly Argument[] }

/**
 * Errors of every call: Unreachable, and RefusedCommand. A call may be carried out twice, unless it is
 * `once`: where the connection breaks before the answer, it is sent again.
 */
export interface Valkey {
  /** A command of one key, which stands first. */
  command<Answer = Reply>(
    command: string,
    key: string,
    args?: readonly Argument[],
    options?: SendOptions,
  ): Promise<Answer>
  /**
   * All or nothing on the server. It is sent as its digest; a server that does not know it is given the
   * text.
   */
  run<Answer = Reply>(
    script: Script,
    keys: Keys,
    args?: readonly Argument[],
    options?: SendOptions,
  ): Promise<Answer>
  /**
   * Several calls in one round trip to each server that has a part in it. The replies come in the order of
   * the calls; where any fails, its error, once all have ended. What lies in different slots is carried out
   * in any order.
   */
  pipeline(calls: readonly Call[]): Promise<Reply[]>
  /**
   * Deletes the keys of a pattern by SCAN, on every server; returns how many. What comes meanwhile may stay.
   */
  forget(pattern: string): Promise<number>
  close(): Promise<void>
}

/** The server said no to the command itself: the same command gets the same answer. */
export class RefusedCommand extends Error {
  /** The first word of its answer, as WRONGTYPE or NOPERM. */
  readonly code: string
  constructor(name: string, words: string) {
    // An unknown command is answered with its arguments, and those are nobody's business.
    super(`Valkey refused ${name}: ${words.replace(/, with args beginning with:.*/s, '')}`)
    this.name = 'RefusedCommand'
    this.code = /^[A-Z]+/.exec(words)?.[0] ?? 'ERR'
  }
}

export const defineScript = (name: string, lua: string): Script => ({
  name,
  lua,
  sha1: createHash('sha1').update(lua).digest('hex'),
})

/** A server's words for "not now", and not "never". */
const NOT_NOW =
  /^(LOADING|CLUSTERDOWN|MASTERDOWN|READONLY|NOREPLICAS|OOM|MISCONF|BUSY|TRYAGAIN|NOAUTH|WRONGPASS|UNKILLABLE)\b/

/** Of those, what a server says that has lost its slots, or is another one's replica by now. */
const NOT_ITS_OWN = /^(CLUSTERDOWN|MASTERDOWN|READONLY)\b/

/** A slot that moves names its new server each time; more than a few are a circle. */
const MAX_REDIRECTIONS = 5
/** How many servers are asked at once where the slots are. */
const MAX_ASKED = 3
const SCAN_COUNT = 500

const CLUSTER_SLOTS = [['CLUSTER', 'SLOTS']] as const

const nameOf = (call: Call): string => ('script' in call ? `the script ${call.script.name}` : call.command)
const keysOf = (call: Call): Keys => ('script' in call ? call.keys : [call.key])

/** With the script as its digest, or as its text. */
function words(call: Call, loaded: boolean): Argument[] {
  const { args = [] } = call
  if (!('script' in call)) return [call.command, call.key, ...args]
  const { script, keys } = call
  return [...(loaded ? ['EVALSHA', script.sha1] : ['EVAL', script.lua]), keys.length, ...keys, ...args]
}

const hostOf = (address: string): string => address.slice(0, address.lastIndexOf(':'))

export function openValkey(options: ValkeyOptions): Valkey {
  const { cluster } = options
  const seeds = options.endpoints.map(({ host, port }) => `${host}:${port}`)
  const connections = new Map<string, Connection>()
  let slots: SlotMap | undefined
  let refreshing: Promise<SlotMap> | undefined
  let closed = false

  const connectionTo = (address: string): Connection => {
    const found = connections.get(address)
    if (found) return found
    const port = Number(address.slice(address.lastIndexOf(':') + 1))
    const made = openConnection({ host: hostOf(address), port }, options)
    if (closed) made.close()
    connections.set(address, made)
    return made
  }

  /** Asks a few servers at once, those first that are known to answer. */
  async function readMap(): Promise<SlotMap> {
    const known = [...new Set([...connections.keys(), ...seeds])].filter(
      (one) => !connections.get(one)?.isDown(),
    )
    const standing = known.filter((one) => connections.get(one)?.isConnected())
    const asked = [...new Set([...standing, ...known])].slice(0, MAX_ASKED)
    const answers = asked.map(async (address) =>
      readSlots(await connectionTo(address).send(CLUSTER_SLOTS), hostOf(address)),
    )
    try {
      slots = await Promise.any(answers)
    } catch (error) {
      const causes = error instanceof AggregateError ? error.errors : [error]
      throw new Unreachable(causes[0] ?? new Error('no server of the cluster can be asked'), false)
    }
    const serving = new Set([...slots, ...seeds])
    for (const [address, connection] of connections)
      if (!serving.has(address)) {
        connections.delete(address)
        connection.close()
      }
    return slots
  }

  const refresh = (): Promise<SlotMap> => {
    refreshing ??= readMap().finally(() => {
      refreshing = undefined
    })
    return refreshing
  }

  /** A server that has failed may have lost its slots to another one since: then the others know. */
  async function addressOf(slot: number): Promise<string> {
    const [single] = seeds
    if (!cluster) return single ?? ''
    const address = (slots ?? (await refresh()))[slot]
    if (address === undefined) {
      refresh().catch(() => undefined)
      throw new Unreachable(new Error('no server has this slot'), false)
    }
    const connection = connections.get(address)
    if (!connection?.hasFailed() || connection.isDown()) return address
    const found = await refresh().catch(() => slots)
    return found?.[slot] ?? address
  }

  /** Sends it to where the key is, wherever it has moved. */
  async function route(slot: number, command: readonly Argument[], sending: SendOptions): Promise<Reply> {
    let address = await addressOf(slot)
    let asking = false
    for (let redirections = 0; ; redirections += 1) {
      const connection = connectionTo(address)
      const wasDown = connection.isDown()
      try {
        return await connection.send(asking ? [['ASKING'], command] : [command], sending)
      } catch (error) {
        const said = error instanceof ErrorReply ? error.message : ''
        const lost = error instanceof Unreachable ? !wasDown : NOT_ITS_OWN.test(said)
        if (cluster && lost) refresh().catch(() => undefined)
        const moved = redirection(said, hostOf(address))
        if (moved === undefined || !cluster) throw error
        // While a slot changes hands its servers may send to and fro: for a moment nobody has it.
        if (redirections === MAX_REDIRECTIONS) throw new Unreachable(error as ErrorReply, false)
        address = moved.address
        asking = moved.once
        if (!moved.once) {
          if (slots) slots[moved.slot] = moved.address
          refresh().catch(() => undefined)
        }
      }
    }
  }

  async function call(one: Call): Promise<Reply> {
    const [first, ...others] = keysOf(one)
    const slot = slotOf(first)
    if (others.some((key) => slotOf(key) !== slot))
      throw new Error(`the keys of ${nameOf(one)} lie in different slots`)
    try {
      return await route(slot, words(one, true), one).catch((error: unknown) => {
        if ('script' in one && error instanceof ErrorReply && error.message.startsWith('NOSCRIPT'))
          return route(slot, words(one, false), one)
        throw error
      })
    } catch (error) {
      if (!(error instanceof ErrorReply)) throw error
      if (NOT_NOW.test(error.message)) throw new Unreachable(error, false)
      throw new RefusedCommand(nameOf(one), error.message)
    }
  }

  async function pipeline(calls: readonly Call[]): Promise<Reply[]> {
    const settled = await Promise.allSettled(calls.map(call))
    return settled.map((result) => {
      if (result.status === 'rejected') throw result.reason
      return result.value
    })
  }

  async function forgetAt(address: string, pattern: string): Promise<number> {
    let cursor = '0'
    let count = 0
    do {
      const scan = ['SCAN', cursor, 'MATCH', pattern, 'COUNT', SCAN_COUNT]
      const [next, keys] = (await connectionTo(address).send([scan])) as [string, string[]]
      cursor = next
      const unlinked = await pipeline(keys.map((key) => ({ command: 'UNLINK', key })))
      count += unlinked.reduce<number>((sum, reply) => sum + Number(reply), 0)
    } while (cursor !== '0')
    return count
  }

  return {
    command: (command, key, args = [], sending = {}) =>
      call({ command, key, args, ...sending }) as Promise<never>,
    run: (script, keys, args = [], sending = {}) =>
      call({ script, keys, args, ...sending }) as Promise<never>,
    pipeline,
    async forget(pattern) {
      const addresses = cluster ? [...new Set(await refresh())] : seeds.slice(0, 1)
      const counts = await Promise.all(
        addresses.map((address) => (address === undefined ? 0 : forgetAt(address, pattern))),
      )
      return counts.reduce((sum, count) => sum + count, 0)
    },
    async close() {
      closed = true
      await Promise.all([...connections.values()].map((connection) => connection.close()))
    },
  }
}
