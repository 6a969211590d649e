/** What the limiter on Valkey does beyond the contract: what it keeps, and what becomes of it when a store is away. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Tenant } from '../../lambdas/protocol/callers.ts'
import type { LimitCheck } from '../../lambdas/protocol/limits.ts'
import type { OwnSettings } from '../../lambdas/protocol/tenants.ts'
import type { Limiter } from '../../lambdas/services/limiter.ts'
import { type Endpoint, openValkey, Unreachable, type Valkey } from '../../lambdas/services/valkey.ts'
import { openSettings } from '../../lambdas/services/valkey-hot-store/settings.ts'
import { openValkeyLimiter } from '../../lambdas/services/valkey-limiter.ts'
import { newTenant, valkeyOptions } from '../harness/hot-store.ts'
import { type BreakableRedis, describeWithRedis, startRedis } from '../harness/redis.ts'

const WINDOW_SECONDS = 60
/** Beyond the window. */
const KEPT_MS = 1_000
/** What a hundred requests would wait if half of them did. */
const STALL_MS = 15_000

const user = (tenant: Tenant, key: string, limit: number, windowSeconds = WINDOW_SECONDS): LimitCheck => ({
  kind: 'user',
  tenant,
  key,
  limit,
  windowSeconds,
})

describeWithRedis('the limiter on Valkey', () => {
  let redis: BreakableRedis
  const connections: Valkey[] = []
  beforeAll(async () => {
    redis = await startRedis('single')
  })
  afterAll(async () => {
    await Promise.all(connections.map((connection) => connection.close()))
    await redis?.close()
  })

  interface Given {
    settings?: (tenant: Tenant) => Promise<OwnSettings>
    /** As in production; otherwise a slow machine is waited for. */
    impatient?: boolean
    endpoint?: Endpoint
  }
  const open = ({ settings = async () => ({}), impatient = false, endpoint }: Given = {}): Limiter => {
    const patience = impatient ? {} : { commandMs: 5_000, connectMs: 5_000 }
    const valkey = openValkey({
      ...valkeyOptions(redis),
      ...patience,
      ...(endpoint && { endpoints: [endpoint] }),
    })
    connections.push(valkey)
    const settingsOf = openSettings(valkey, { settings })
    return openValkeyLimiter({ valkey, settingsOf, ...(impatient ? {} : { patienceMs: 5_000 }) })
  }
  const admin = (...command: string[]) => redis.nodes[0].admin(...command)
  const keys = async (): Promise<string[]> =>
    ((await admin('KEYS', '*')) as string[]).filter((key) => key.includes(':rate')).sort()

  test('names the tenant in every key, whatever a user is called, and keeps none beyond its window', async () => {
    await redis.empty()
    const tenant = { companyId: '한옥:{마을}', platform: 'web' }
    const tag = 'tk:{%ED%95%9C%EC%98%A5%3A%7B%EB%A7%88%EC%9D%84%7D:web}:rate'
    const names = ['하늘 😀', 'a:b}', '가'.repeat(200)]
    for (const name of names)
      await open().admit([user(tenant, name, 5), { ...user(tenant, '', 50), kind: 'tenant' }])
    await open().admit([{ kind: 'address', key: '0f'.repeat(16), limit: 5, windowSeconds: WINDOW_SECONDS }])
    expect(await keys()).toEqual(
      [
        ...names.map((name) => `${tag}:user:${encodeURIComponent(name)}`),
        `${tag}:tenant`,
        `tk:{addresses:${'0f'.repeat(16)}}:rate`,
      ].sort(),
    )
    for (const key of await keys()) {
      const left = Number(await admin('PTTL', key))
      expect(left).toBeGreaterThan(WINDOW_SECONDS * 1_000 - 30_000)
      expect(left).toBeLessThanOrEqual(WINDOW_SECONDS * 1_000 + KEPT_MS)
    }
  })

  test('keeps a few groups for a key, however many come', async () => {
    await redis.empty()
    const [limiter, tenant] = [open(), newTenant()]
    for (let round = 0; round < 40; round += 1) {
      await Promise.all(Array.from({ length: 25 }, () => limiter.admit([user(tenant, 'u1', 100_000, 1)])))
      await sleep(30)
    }
    const [key = ''] = await keys()
    const groups = String(await admin('GET', key)).split(' ')
    expect(groups.length).toBeGreaterThan(3)
    expect(groups.length).toBeLessThanOrEqual(22)
    await sleep(1_000 + KEPT_MS + 200)
    expect(await keys()).toEqual([])
  })

  test('writes nothing for a request that it refuses', async () => {
    await redis.empty()
    const [limiter, tenant] = [open(), newTenant()]
    await limiter.admit([user(tenant, 'u1', 1)])
    const [key = ''] = await keys()
    const before = await admin('GET', key)
    for (let index = 0; index < 5; index += 1)
      await limiter.admit([user(tenant, 'u1', 1), { ...user(tenant, '', 50), kind: 'tenant' }])
    expect(await keys()).toEqual([key])
    expect(await admin('GET', key)).toBe(before)
  })

  test('forgives a clock that was set back', async () => {
    await redis.empty()
    const [limiter, tenant] = [open(), newTenant()]
    await limiter.admit([user(tenant, 'u1', 3, 1)])
    const [key = ''] = await keys()
    const tomorrow = (Date.now() + 86_400_000) * 1_000
    await admin('SET', key, `${tomorrow}:2 ${tomorrow - 100}:1`, 'PX', '10000')
    expect(await limiter.admit([user(tenant, 'u1', 5, 1)])).toMatchObject([{ allowed: true, remaining: 1 }])
    await sleep(1_100)
    expect(await limiter.admit([user(tenant, 'u1', 5, 1)])).toMatchObject([{ remaining: 4 }])
  })

  test('asks for a tenant’s settings once for many requests, and holds the environment’s limits while nobody answers', async () => {
    const tenant = newTenant()
    let asked = 0
    const silent = open({
      settings: () => {
        asked += 1
        return new Promise(() => undefined)
      },
    })
    const states = await Promise.all(Array.from({ length: 12 }, () => silent.admit([user(tenant, 'u1', 10)])))
    expect(states.flat().filter(({ allowed }) => allowed)).toHaveLength(10)
    await sleep(1_200) // its patience with Postgres
    for (let index = 0; index < 5; index += 1)
      expect(await silent.admit([user(tenant, 'u1', 10)])).toMatchObject([{ allowed: false, limit: 10 }])
    expect(asked).toBe(1)
  })

  test('does not count a request twice whose answer is lost on the way', async () => {
    const [tenant, other] = [newTenant(), open()]
    let isLost = false
    const proxy = createServer((client) => {
      const server = connect(redis.nodes[0].port, '127.0.0.1')
      client.pipe(server)
      server.on('data', (answer) => (isLost ? client.destroy() : client.write(answer)))
      for (const [socket, peer] of [
        [client, server],
        [server, client],
      ] as const)
        socket.on('error', () => undefined).on('close', () => peer.destroy())
    })
    await once(proxy.listen(0, '127.0.0.1'), 'listening')
    const { port } = proxy.address() as AddressInfo
    const limiter = open({ endpoint: { host: '127.0.0.1', port } })
    await limiter.admit([user(tenant, 'u1', 100)])
    isLost = true
    await expect(limiter.admit([user(tenant, 'u1', 100)])).rejects.toBeInstanceOf(Unreachable)
    expect(await other.admit([user(tenant, 'u1', 100)])).toMatchObject([{ remaining: 97 }])
    proxy.close()
  })

  test('that is silent is given up soon, and not waited for again', async () => {
    const [limiter, tenant] = [open({ impatient: true }), newTenant()]
    await limiter.admit([user(tenant, 'u1', 100)])
    redis.nodes[0].freeze()
    try {
      const begun = performance.now()
      for (let index = 0; index < 100; index += 1)
        await expect(limiter.admit([user(tenant, 'u1', 100)])).rejects.toMatchObject({ code: 'unavailable' })
      expect(performance.now() - begun).toBeLessThan(STALL_MS)
    } finally {
      redis.nodes[0].thaw()
    }
  })

  test('of a cache that is full or read-only fails, and lets what was counted stand', async () => {
    const [limiter, tenant] = [open(), newTenant()]
    await limiter.admit([user(tenant, 'u1', 100)])
    await redis.refuseWrites(true)
    await expect(limiter.admit([user(tenant, 'u1', 100)])).rejects.toBeInstanceOf(Unreachable)
    await redis.refuseWrites(false)
    expect(await limiter.admit([user(tenant, 'u1', 100)])).toMatchObject([{ remaining: 98 }])
  })
})
