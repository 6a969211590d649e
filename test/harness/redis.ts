/**
 * Real Redis or Valkey for tests: one plain server, or a cluster of three as ElastiCache is seen from
 * outside, with TLS, logins, and without the commands that ElastiCache serverless withholds. All on loopback,
 * in memory, on free ports; only what was started here is ended here.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { createClient } from '@redis/client'
import { describe } from 'vitest'
import type { Reply } from '../../lambdas/services/valkey-connection.ts'
import { SLOTS, slotOf } from '../../lambdas/services/valkey-slots.ts'

const HOST = '127.0.0.1'
const OLDEST = 7
/** A master that has just started waits two seconds before it serves its slots. */
const READY_MS = 20_000

function findServer(): { binary: string } | { reason: string } {
  let reason = 'redis-server is not installed'
  for (const binary of ['redis-server', 'valkey-server']) {
    const { stdout = '', error } = spawnSync(binary, ['--version'], { encoding: 'utf8' })
    if (error) continue
    const version = Number(/ v=(\d+)/.exec(stdout)?.[1])
    if (version >= OLDEST) return { binary }
    reason = `${binary} is older than version ${OLDEST}`
  }
  return { reason }
}

const server = findServer()
export const redisAvailable = 'binary' in server
/** The name of what is started: redis-server or valkey-server. */
export const redisBinary = 'binary' in server ? server.binary : undefined
/** Why it is not, for the title of what is skipped. */
export const whyNoRedis = 'reason' in server ? server.reason : undefined

/** Tests that need Redis; without one they are reported as skipped, and why. */
export function describeWithRedis(title: string, tests: () => void): void {
  if (redisAvailable) describe(title, tests)
  else describe.skip(`${title} (${whyNoRedis})`, tests)
}

/**
 * What ElastiCache serverless withholds, as far as Redis 7 has it: "Supported and restricted commands" in its
 * guide, read in November 2026. WATCH is in neither list; people report it refused.
 */
const WITHHELD = [
  ...[
    'acl|setuser',
    'acl|load',
    'acl|save',
    'acl|deluser',
    'acl|log',
    'bgrewriteaof',
    'bgsave',
    'config',
    'debug',
  ],
  ...[
    'cluster|addslots',
    'cluster|addslotsrange',
    'cluster|bumpepoch',
    'cluster|delslots',
    'cluster|failover',
  ],
  ...['cluster|flushslots', 'cluster|forget', 'cluster|links', 'cluster|meet', 'cluster|setslot', 'migrate'],
  ...[
    'psync',
    'replicaof',
    'save',
    'slaveof',
    'shutdown',
    'sync',
    'client|caching',
    'client|getredir',
    'client|id',
  ],
  ...['client|info', 'client|kill', 'client|list', 'client|no-evict', 'client|pause', 'client|tracking'],
  ...[
    'client|trackinginfo',
    'client|unblock',
    'client|unpause',
    'fcall',
    'fcall_ro',
    'function',
    'keys',
    'lastsave',
  ],
  ...[
    'latency',
    'memory',
    'monitor',
    'move',
    'object',
    'pfdebug',
    'pfselftest',
    'psubscribe',
    'punsubscribe',
  ],
  ...['script|kill', 'slowlog', 'swapdb', 'wait', 'watch', 'unwatch'],
]

/** How to reach servers, also from another process. */
export interface RedisAccess {
  endpoints: [{ host: string; port: number }, ...{ host: string; port: number }[]]
  cluster: boolean
  /** The authority, as text and, for another process, as a file. */
  tls: false | { ca: string; caFile: string }
  /** Undefined: no login. */
  login: { username: string; password: string } | undefined
  adminLogin: { username: string; password: string } | undefined
}

export interface RedisNode {
  port: number
  /** Any command, as the administrator. */
  admin(...command: string[]): Promise<Reply>
}

export interface Redis extends RedisAccess {
  nodes: [RedisNode, ...RedisNode[]]
  /** Everything that is stored. What others have stored on a shared server, too. */
  empty(): Promise<void>
  /** The server that has the key. */
  nodeOf(key: string): number
  /** Those that match a pattern, on whichever servers have them now. */
  keys(pattern: string): Promise<string[]>
}

export interface BreakableNode extends RedisNode {
  /** SIGKILL. What it held is gone. */
  kill(): Promise<void>
  /** At the same address, and in a cluster with the same slots; ready when it resolves. */
  restart(): Promise<void>
  /** SIGSTOP: its connections stand and nothing answers. */
  freeze(): void
  thaw(): void
}

/** The variables by which the functions use it. */
export function variablesOf({ endpoints: [{ host, port }], cluster, tls, login }: RedisAccess) {
  const who = login ? `${login.username}:${login.password}@` : ''
  return {
    HOT_STORE: 'valkey',
    VALKEY_URL: `${tls ? 'rediss' : 'redis'}://${who}${host}:${port}`,
    VALKEY_CLUSTER: String(cluster),
    ...(tls && { NODE_EXTRA_CA_CERTS: tls.caFile }),
  }
}

export interface BreakableRedis extends Redis {
  nodes: [BreakableNode, ...BreakableNode[]]
  /** Writes are refused (NOREPLICAS), reads are answered. */
  refuseWrites(refused: boolean): Promise<void>
  /** Of the login; connections that stand are not ended. */
  changePassword(password: string): Promise<void>
  /** In a cluster: another server gets the slots of one that is gone. */
  replace(gone: number, heir: number): Promise<void>
  close(): Promise<void>
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const holder = createServer().listen(0, HOST)
      await once(holder, 'listening')
      return holder
    }),
  )
  const ports = servers.map((holder) => (holder.address() as AddressInfo).port)
  await Promise.all(servers.map((holder) => once(holder.close(), 'close')))
  return ports
}

const running = new Set<ChildProcess>()
const roots = new Set<string>()
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL')
  for (const root of roots) rmSync(root, { recursive: true, force: true })
})

function run(binary: string, directory: string): ChildProcess {
  const child = spawn(binary, [join(directory, 'redis.conf')], { stdio: 'ignore' })
  running.add(child)
  child.once('exit', () => running.delete(child))
  return child
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  child.kill('SIGKILL')
  await gone
}

const inMemory = ['save ""', 'appendonly no', 'loglevel warning', 'daemonize no', `bind ${HOST}`]

function configure(directory: string, lines: readonly string[]): string {
  mkdirSync(directory)
  writeFileSync(join(directory, 'redis.conf'), [...inMemory, `dir ${directory}`, ...lines, ''].join('\n'))
  return directory
}

/** An authority of its own (ca.crt), and a certificate of it for this machine (server.crt and .key). */
export function makeCertificates(directory: string): string {
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: directory, stdio: 'pipe' })
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  const authority = ['-keyout', 'ca.key', '-out', 'ca.crt']
  openssl('req', '-x509', ...key, '-days', '2', '-subj', '/CN=authority of a test', ...authority)
  openssl('req', ...key, '-subj', '/CN=server of a test', '-keyout', 'server.key', '-out', 'server.csr')
  writeFileSync(join(directory, 'names'), `subjectAltName=IP:${HOST}\n`)
  const signed = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2', '-extfile', 'names']
  openssl('x509', '-req', '-in', 'server.csr', ...signed, '-out', 'server.crt')
  return readFileSync(join(directory, 'ca.crt'), 'utf8')
}

/** One command on a connection of its own. */
async function ask(
  port: number,
  { tls, adminLogin }: RedisAccess,
  command: readonly string[],
): Promise<Reply> {
  const client = createClient({
    RESP: 2,
    socket: { host: HOST, port, reconnectStrategy: false, ...(tls ? { tls: true, ca: tls.ca } : {}) },
    disableClientInfo: true,
    maintNotifications: 'disabled',
    ...adminLogin,
  })
  client.on('error', () => undefined)
  try {
    await client.connect()
    return await client.sendCommand<Reply>([...command])
  } finally {
    client.destroy()
  }
}

/** Until it answers as wished; a server that has ended is not waited for. */
async function until(ready: () => Promise<boolean>, child?: ChildProcess): Promise<void> {
  const givenUpAt = Date.now() + READY_MS
  while (!(await ready().catch(() => false))) {
    if (Date.now() > givenUpAt) throw new Error('Redis did not become ready')
    if (child && child.exitCode !== null) throw new Error('Redis ended while it was starting')
    await sleep(10)
  }
}

const isReady = async (port: number, access: RedisAccess): Promise<boolean> =>
  access.cluster
    ? String(await ask(port, access, ['CLUSTER', 'INFO'])).includes('cluster_state:ok')
    : (await ask(port, access, ['PING'])) === 'PONG'

const shareOf = (node: number, nodes: number): [first: number, last: number] => [
  Math.floor((node * SLOTS) / nodes),
  Math.floor(((node + 1) * SLOTS) / nodes) - 1,
]

/** Resolves when they serve. */
export async function openRedis(access: RedisAccess): Promise<Redis> {
  await Promise.all(access.endpoints.map(({ port }) => until(() => isReady(port, access))))
  const nodes = access.endpoints.map(({ port }) => ({
    port,
    admin: (...command: string[]) => ask(port, access, command),
  }))
  const [first, ...others] = nodes
  if (first === undefined) throw new Error('no servers')
  return {
    ...access,
    nodes: [first, ...others],
    empty: async () => {
      await Promise.all(nodes.map(({ admin }) => admin('FLUSHALL')))
    },
    keys: (pattern) => keysOf(access, pattern),
    nodeOf: (key) => nodes.findIndex((_, index) => slotOf(key) <= shareOf(index, nodes.length)[1]),
  }
}

/** Of a cluster: servers that have slots and are there. */
async function servingPorts(access: RedisAccess): Promise<number[]> {
  const ports = access.endpoints.map(({ port }) => port)
  if (!access.cluster) return ports
  const nodes = String(await Promise.any(ports.map((port) => ask(port, access, ['CLUSTER', 'NODES']))))
  return nodes.split('\n').flatMap((line) => {
    const [, address = '', flags = ''] = line.split(' ')
    const port = Number(/:(\d+)@/.exec(address)?.[1])
    return /master/.test(flags) && !/fail|noaddr/.test(flags) ? [port] : []
  })
}

async function keysOf(access: RedisAccess, pattern: string): Promise<string[]> {
  const keys = new Set<string>()
  for (const port of await servingPorts(access))
    for (let cursor: string | undefined; cursor !== '0'; ) {
      const scan = ['SCAN', cursor ?? '0', 'MATCH', pattern, 'COUNT', '10000']
      const [next, found] = (await ask(port, access, scan)) as [string, string[]]
      for (const key of found) keys.add(key)
      cursor = next
    }
  return [...keys]
}

export interface StartedRedis {
  access: RedisAccess
  children: ChildProcess[]
  directories: string[]
  end(): Promise<void>
}

/** Starts the processes and does not wait until they serve. */
export async function launchRedis(kind: 'single' | 'cluster', replicas = false): Promise<StartedRedis> {
  if (!('binary' in server)) throw new Error(server.reason)
  const root = mkdtempSync(join(tmpdir(), 'turnkeep-redis-'))
  roots.add(root)
  const { access, directories } =
    kind === 'single' ? await configureSingle(root) : await configureCluster(root, replicas)
  const children = directories.map((directory) => run(server.binary, directory))
  return {
    access,
    directories,
    children,
    end: async () => {
      await Promise.all(children.map(end))
      rmSync(root, { recursive: true, force: true })
      roots.delete(root)
    },
  }
}

async function configureSingle(root: string): Promise<{ access: RedisAccess; directories: string[] }> {
  const [port = 0] = await freePorts(1)
  return {
    access: {
      endpoints: [{ host: HOST, port }],
      cluster: false,
      tls: false,
      login: undefined,
      adminLogin: undefined,
    },
    directories: [configure(join(root, 'single'), [`port ${port}`])],
  }
}

interface Member {
  id: string
  port: number
  busPort: number
  /** Of the server that it copies; `-`: none. */
  master: string
  slots: string
}

/** A server without a word from it for so long is dead. Where nobody can take its place, nobody need be in a hurry. */
const DEAD_AFTER_MS = { alone: 15_000, replicated: 1_500 }

async function membersOf(replicas: boolean): Promise<Member[]> {
  const count = replicas ? 6 : 3
  const ports = await freePorts(2 * count)
  const ids = Array.from({ length: count }, () => randomBytes(20).toString('hex'))
  return ids.map((id, index) => ({
    id,
    port: ports[index] ?? 0,
    busPort: ports[index + count] ?? 0,
    master: index < 3 ? '-' : (ids[index - 3] ?? '-'),
    slots: index < 3 ? shareOf(index, 3).join('-') : '',
  }))
}

/** They know each other from the start, which is quicker than introductions. */
const introduce = (members: readonly Member[], self: Member): string =>
  members
    .map(({ id, port, busPort, master, slots }) => {
      const role = master === '-' ? 'master' : 'slave'
      const flags = id === self.id ? `myself,${role}` : role
      const of = master === '-' ? id : master
      const epoch = members.findIndex((one) => one.id === of) + 1
      return `${id} ${HOST}:${port}@${busPort} ${flags} ${master} 0 0 ${epoch} connected ${slots}`.trimEnd()
    })
    .join('\n')

async function configureCluster(
  root: string,
  replicas: boolean,
): Promise<{ access: RedisAccess; directories: string[] }> {
  const ca = makeCertificates(root)
  const caFile = join(root, 'ca.crt')
  const login = { username: 'turnkeep', password: randomBytes(16).toString('hex') }
  const adminLogin = { username: 'admin', password: randomBytes(16).toString('hex') }
  const members = await membersOf(replicas)
  const directories = members.map((member, index) => {
    const directory = configure(join(root, `node-${index}`), [
      'port 0',
      `tls-port ${member.port}`,
      `cluster-port ${member.busPort}`,
      `tls-ca-cert-file ${caFile}`,
      `tls-cert-file ${join(root, 'server.crt')}`,
      `tls-key-file ${join(root, 'server.key')}`,
      'tls-protocols TLSv1.3',
      'tls-auth-clients no',
      'tls-cluster yes',
      'cluster-enabled yes',
      // As ElastiCache serverless: what is left is served.
      'cluster-require-full-coverage no',
      `cluster-node-timeout ${replicas ? DEAD_AFTER_MS.replicated : DEAD_AFTER_MS.alone}`,
      ...(replicas ? ['tls-replication yes', 'repl-diskless-sync-delay 0'] : []),
      ...(replicas ? [`masteruser ${adminLogin.username}`, `masterauth ${adminLogin.password}`] : []),
      'user default off',
      `user ${adminLogin.username} on >${adminLogin.password} ~* &* +@all`,
      `user ${login.username} on >${login.password} ~* &* +@all ${WITHHELD.map((one) => `-${one}`).join(' ')}`,
    ])
    const nodes = `${introduce(members, member)}\nvars currentEpoch 3 lastVoteEpoch 0\n`
    writeFileSync(join(directory, 'nodes.conf'), nodes)
    return directory
  })
  const masters = members.filter(({ master }) => master === '-')
  const [first, ...others] = masters.map(({ port }) => ({ host: HOST, port }))
  if (first === undefined) throw new Error('no members')
  return {
    access: { endpoints: [first, ...others], cluster: true, tls: { ca, caFile }, login, adminLogin },
    directories,
  }
}

/** A port that was free a moment ago may be taken: then again with others. */
const START_ATTEMPTS = 3

async function launchAndOpen(
  kind: 'single' | 'cluster',
  replicas: boolean,
  attempt = 1,
): Promise<StartedRedis & { redis: Redis }> {
  const started = await launchRedis(kind, replicas)
  const failing = started.children.map(async (child) => {
    await once(child, 'exit')
    throw new Error('Redis ended while it was starting')
  })
  try {
    return { ...started, redis: await Promise.race([openRedis(started.access), ...failing]) }
  } catch (error) {
    await started.end()
    if (attempt === START_ATTEMPTS) throw error
    return launchAndOpen(kind, replicas, attempt + 1)
  } finally {
    for (const one of failing) one.catch(() => undefined)
  }
}

/**
 * Servers of one's own, to break. With replicas, which are no `nodes`, another server takes the place of one that is gone
 * within seconds.
 */
export async function startRedis(
  kind: 'single' | 'cluster',
  { replicas = false } = {},
): Promise<BreakableRedis> {
  const { access, children, directories, end: close, redis } = await launchAndOpen(kind, replicas)
  const isCopied = async ({ admin }: RedisNode) =>
    String(await admin('INFO', 'replication')).includes('state=online')
  if (replicas) await Promise.all(redis.nodes.map((node) => until(() => isCopied(node))))
  const nodes = redis.nodes.map((node, index): BreakableNode => {
    const signal = (name: NodeJS.Signals) => children[index]?.kill(name)
    return {
      ...node,
      kill: async () => {
        const child = children[index]
        if (child) await end(child)
      },
      restart: async () => {
        if (!('binary' in server)) return
        const child = run(server.binary, directories[index] ?? '')
        children[index] = child
        await until(() => isReady(node.port, access), child)
      },
      freeze: () => signal('SIGSTOP'),
      thaw: () => signal('SIGCONT'),
    }
  })
  const [first, ...others] = nodes
  if (first === undefined) throw new Error('no nodes')
  const everywhere = (...command: string[]) => Promise.all(nodes.map(({ admin }) => admin(...command)))
  return {
    ...redis,
    nodes: [first, ...others],
    refuseWrites: async (refused) => {
      await everywhere('CONFIG', 'SET', 'min-replicas-to-write', refused ? '1' : '0')
    },
    changePassword: async (password) => {
      await everywhere('ACL', 'SETUSER', access.login?.username ?? 'default', 'resetpass', `>${password}`)
    },
    replace: async (gone, heir) => {
      const [from, to] = shareOf(gone, nodes.length)
      const left = nodes.filter((_, index) => index !== gone)
      await Promise.all(left.map(({ admin }) => admin('CLUSTER', 'DELSLOTSRANGE', String(from), String(to))))
      await nodes[heir]?.admin('CLUSTER', 'ADDSLOTSRANGE', String(from), String(to))
      await nodes[heir]?.admin('CLUSTER', 'BUMPEPOCH')
    },
    close,
  }
}
