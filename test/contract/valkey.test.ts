import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { v7 as uuidv7 } from 'uuid'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import {
  defineScript,
  openValkey,
  RefusedCommand,
  Unreachable,
  type Valkey,
  type ValkeyOptions,
} from '../../lambdas/services/valkey.ts'
import { slotOf } from '../../lambdas/services/valkey-slots.ts'
import {
  type BreakableNode,
  type BreakableRedis,
  describeWithRedis,
  type RedisAccess,
  startRedis,
} from '../harness/redis.ts'
import { type RedisKind, sharedRedis } from '../harness/shared-redis.ts'
import { startSlowProxy } from '../harness/slow-proxy.ts'

const KINDS: RedisKind[] = ['single', 'cluster']
const BACK_OFF_MS = 400
/** What must happen, happens within this, on a machine with much else to do. */
const PATIENCE_MS = 5_000

function optionsFor({ endpoints, cluster, tls, login }: RedisAccess): ValkeyOptions {
  return {
    endpoints,
    cluster,
    tls,
    ...(login ? { username: login.username, password: async () => login.password } : {}),
    backOffMs: BACK_OFF_MS,
    commandMs: PATIENCE_MS,
    connectMs: PATIENCE_MS,
  }
}

const opened: Valkey[] = []
/** Closed after the test. */
function open(redis: RedisAccess, changes: Partial<ValkeyOptions> = {}): Valkey {
  const valkey = openValkey({ ...optionsFor(redis), ...changes })
  opened.push(valkey)
  return valkey
}
afterEach(async () => {
  await Promise.all(opened.splice(0).map((valkey) => valkey.close()))
})

/** Keys that nobody else has, all of one slot. */
const tagged = (kind = 'k') => `{${uuidv7()}}:${kind}`

/** A key that lies on this server. */
function keyOn(redis: BreakableRedis, node: number): string {
  for (;;) {
    const key = tagged()
    if (redis.nodeOf(key) === node) return key
  }
}

async function timed<Result>(work: () => Promise<Result>): Promise<{ ms: number; result: Result }> {
  const begun = performance.now()
  const result = await work()
  return { ms: performance.now() - begun, result }
}

const failure = (work: Promise<unknown>): Promise<Unreachable> =>
  work.then(
    () => expect.fail('it did not fail'),
    (error) => (error instanceof Unreachable ? error : expect.fail(`it failed otherwise: ${error}`)),
  )

/** It fails before anything could come from outside: nothing was asked. */
async function failsAtOnce(work: Promise<unknown>): Promise<boolean> {
  const turn = new Promise((next) => setImmediate(next))
  return Promise.race([failure(work).then(() => true), turn.then(() => false)])
}

/** Until it works again. */
async function recovered(work: () => Promise<unknown>): Promise<void> {
  const givenUpAt = Date.now() + BACK_OFF_MS + PATIENCE_MS
  for (;;)
    try {
      await work()
      return
    } catch (error) {
      if (Date.now() > givenUpAt) throw error
      await sleep(10)
    }
}

const APPEND = defineScript(
  'append',
  `redis.call('rpush', KEYS[1], ARGV[1])
   redis.call('hset', KEYS[2], 'last', ARGV[1])
   return {redis.call('llen', KEYS[1]), redis.call('hget', KEYS[2], 'last'), false}`,
)

describe('a slot', () => {
  test.each([
    ['123456789', 0x31c3],
    ['', 0],
    ['{user1000}.following', slotOf('user1000')],
    ['foo{}{bar}', 8363],
    ['foo{{bar}}zap', slotOf('{bar')],
    ['foo{bar}{zap}', slotOf('bar')],
    ['한국어', slotOf('{한국어}')],
  ])('of %j is what the specification says', (key, slot) => {
    expect(slotOf(key)).toBe(slot)
  })
})

for (const kind of KINDS)
  describeWithRedis(`the cache (${kind})`, () => {
    let redis: RedisAccess
    beforeAll(async () => {
      redis = await sharedRedis(kind)
    })

    test('gives back what it was given, whatever the key', async () => {
      const valkey = open(redis)
      const keys = Array.from({ length: 30 }, () => tagged())
      for (const key of keys) expect(await valkey.command('SET', key, [key, 'PX', 60_000])).toBe('OK')
      for (const key of keys) expect(await valkey.command('GET', key)).toBe(key)
      expect(await valkey.command('GET', tagged())).toBeNull()
      expect(await valkey.command('HGETALL', tagged())).toEqual([])
    })

    test('knows the server’s slots as the server does', async () => {
      const { nodes } = await sharedRedis('cluster')
      for (const key of ['a', '{a}b', 'a{b', 'a}b{c', '{}a', '{{}}', '가{나}다', '\u{1f600}'])
        expect(await nodes[0].admin('CLUSTER', 'KEYSLOT', key)).toBe(slotOf(key))
    })

    test('keeps Korean, emoji, line breaks and bytes of any kind as they are', async () => {
      const valkey = open(redis)
      const key = tagged()
      const text = '배송 정책이 어떻게 되나요? 😀\r\n\u0000"\\'
      await valkey.command('SET', key, [text])
      expect(await valkey.command('GET', key)).toBe(text)
      const bytes = Buffer.from(Uint8Array.from({ length: 256 }, (_, byte) => byte))
      await valkey.command('SET', key, [bytes])
      expect(await valkey.command('GET', key, [], { bytes: true })).toEqual(bytes)
    })

    test('takes 5 MB in one value and gives them back', async () => {
      const valkey = open(redis)
      const key = tagged()
      const value = Buffer.alloc(5_000_000, '가')
      await valkey.command('SET', key, [value, 'PX', 60_000])
      const back = await valkey.command<Buffer>('GET', key, [], { bytes: true })
      expect(createHash('sha1').update(back).digest('hex')).toBe(
        createHash('sha1').update(value).digest('hex'),
      )
      await valkey.command('DEL', key)
    })

    test('carries calls of one tick out in order, and nothing else waits for one', async () => {
      const valkey = open(redis)
      const key = tagged()
      await Promise.all(Array.from({ length: 500 }, (_, index) => valkey.command('RPUSH', key, [index])))
      expect(await valkey.command('LRANGE', key, [0, -1])).toEqual(
        Array.from({ length: 500 }, (_, index) => String(index)),
      )
    })

    test('runs a script that the server does not know, and the next time by its digest', async () => {
      const valkey = open(redis)
      const unknown = defineScript('unknown', `return {KEYS[1], ARGV[1]} -- ${uuidv7()}`)
      const key = tagged()
      for (let times = 0; times < 2; times += 1)
        expect(await valkey.run(unknown, [key], ['가'])).toEqual([key, '가'])
      expect(await valkey.run(APPEND, [tagged('list'), tagged('hash')]).catch(String)).toContain(
        'different slots',
      )
      const [list, hash] = [key, `${key}:hash`]
      expect(await valkey.run(APPEND, [list, hash], ['a'])).toEqual([1, 'a', null])
      expect(await valkey.run(APPEND, [list, hash], [7])).toEqual([2, '7', null])
    })

    test('answers a pipeline in its order, over all servers and scripts', async () => {
      const valkey = open(redis)
      const keys = Array.from({ length: 20 }, () => tagged())
      const replies = await valkey.pipeline([
        ...keys.map((key, index) => ({ command: 'SET', key, args: [index] })),
        ...keys.map((key) => ({ command: 'GET', key })),
        ...keys.map((key) => ({ script: APPEND, keys: [`${key}l`, `${key}h`] as const, args: [key] })),
        ...keys.map((key) => ({ command: 'GET', key, bytes: true })),
      ])
      expect(replies).toEqual([
        ...keys.map(() => 'OK'),
        ...keys.map((_, index) => String(index)),
        ...keys.map((key) => [1, key, null]),
        ...keys.map((_, index) => Buffer.from(String(index))),
      ])
    })

    test('fails a pipeline with what failed in it, once the others have ended', async () => {
      const valkey = open(redis)
      const [text, other] = [tagged(), tagged()]
      await valkey.command('SET', text, ['x'])
      const calls = [
        { command: 'RPUSH', key: text, args: ['x'] },
        { command: 'SET', key: other, args: ['done'] },
      ]
      await expect(valkey.pipeline(calls)).rejects.toMatchObject({
        name: 'RefusedCommand',
        code: 'WRONGTYPE',
      })
      expect(await valkey.command('GET', other)).toBe('done')
    })

    test('refuses a command without repeating its arguments', async () => {
      const valkey = open(redis)
      const error = await valkey.command('NOTHING', tagged(), ['a secret']).catch((reason) => reason)
      expect(error).toBeInstanceOf(RefusedCommand)
      expect(error.message).toContain('NOTHING')
      expect(String(error.stack)).not.toContain('a secret')
    })

    test('forgets the keys of a pattern and no others', async () => {
      const valkey = open(redis)
      const name = uuidv7()
      const keys = Array.from({ length: 1_200 }, (_, index) => `${name}:${index}`)
      const kept = `other:${name}:1`
      await valkey.pipeline([...keys, kept].map((key) => ({ command: 'SET', key, args: ['x'] })))
      expect(await valkey.forget(`${name}:*`)).toBe(1_200)
      expect(await valkey.forget(`${name}:*`)).toBe(0)
      expect(await valkey.command('GET', kept)).toBe('x')
      await valkey.command('DEL', kept)
    })

    test('does not keep a process alive that does not close it', async () => {
      const file = resolve(import.meta.dirname, '../fixtures/valkey-user.ts')
      const { login, ...access } = redis
      const options = { ...access, ...login, adminLogin: undefined, nodes: undefined }
      const { stdout } = await promisify(execFile)(
        process.execPath,
        [file, JSON.stringify(options), tagged()],
        {
          timeout: 10_000,
        },
      )
      expect(stdout).toBe('used')
    })

    test('is not blamed when this process was busy while the answer came', async () => {
      const valkey = open(redis, { commandMs: 500 })
      await recovered(() => valkey.command('GET', tagged()))
      const key = tagged()
      await recovered(() => valkey.command('SET', key, ['x']))
      const answer = valkey.command('GET', key)
      await new Promise((next) => setImmediate(() => setImmediate(next)))
      const busyUntil = Date.now() + 1_500
      while (Date.now() < busyUntil);
      expect(await answer).toBe('x')
    })

    test('makes a new connection before the old one ends, and no call notices', async () => {
      let asked = 0
      const { password } = optionsFor(redis)
      const valkey = open(redis, {
        maxAgeMs: 50,
        username: redis.login?.username ?? 'default',
        password: async () => {
          asked += 1
          return (await password?.()) ?? 'any: this user has none'
        },
      })
      const key = tagged()
      const givenUpAt = Date.now() + PATIENCE_MS
      let count = 0
      while (asked < 6 && Date.now() < givenUpAt) {
        expect(await valkey.command('INCR', key)).toBe(count + 1)
        count += 1
      }
      expect(asked).toBeGreaterThanOrEqual(6)
    })

    test('fails after it was closed, and closing twice is nothing', async () => {
      const valkey = open(redis)
      await valkey.command('GET', tagged())
      await valkey.close()
      await valkey.close()
      await failure(valkey.command('GET', tagged()))
    })

    test('fails within the time to connect where nobody listens, and then at once', async () => {
      const valkey = open({ ...redis, endpoints: [{ host: '127.0.0.1', port: 1 }] })
      expect(await failure(valkey.command('GET', tagged()))).toMatchObject({ mayHaveRun: false })
      for (let times = 0; times < 100; times += 1)
        expect(await failsAtOnce(valkey.command('GET', tagged()))).toBe(true)
    })
  })

for (const kind of KINDS)
  describeWithRedis(`the cache in trouble (${kind})`, () => {
    let redis: BreakableRedis
    beforeAll(async () => {
      redis = await startRedis(kind)
    })
    afterAll(() => redis?.close())

    test('finds its scripts and keys again when it was emptied', async () => {
      const valkey = open(redis)
      const key = keyOn(redis, 0)
      await valkey.run(APPEND, [key, `${key}h`], ['a'])
      await redis.empty()
      await Promise.all(redis.nodes.map(({ admin }) => admin('SCRIPT', 'FLUSH')))
      expect(await valkey.run(APPEND, [key, `${key}h`], ['b'])).toEqual([1, 'b', null])
    })

    test('that takes no writes says so at once, gives what it has, and is not given up', async () => {
      const valkey = open(redis)
      const key = keyOn(redis, 0)
      await valkey.command('SET', key, ['x'])
      await redis.refuseWrites(true)
      const refused = await failure(valkey.command('SET', key, ['y']))
      expect(String(refused.cause)).toContain('NOREPLICAS')
      expect(refused.mayHaveRun).toBe(false)
      await failure(valkey.run(APPEND, [`${key}l`, `${key}h`], ['b']))
      expect(await valkey.command('GET', key)).toBe('x')
      await redis.refuseWrites(false)
      expect(await valkey.command('SET', key, ['y'])).toBe('OK')
    })

    test('that is full refuses a whole script, and not the rest of it', async () => {
      const valkey = open(redis)
      const key = keyOn(redis, 0)
      const two = defineScript(
        'two writes',
        `#!lua
        redis.call('del', KEYS[1])
        return redis.call('set', KEYS[2], ARGV[1])`,
      )
      await valkey.run(two, [key, `${key}2`], ['1'])
      await valkey.command('SET', key, ['x'])
      await redis.nodes[0].admin('CONFIG', 'SET', 'maxmemory', '1')
      expect(String((await failure(valkey.run(two, [key, `${key}2`], ['2']))).cause)).toContain('OOM')
      expect(await valkey.command('GET', key)).toBe('x')
      await redis.nodes[0].admin('CONFIG', 'SET', 'maxmemory', '0')
      expect(await valkey.run(two, [key, `${key}2`], ['2'])).toBe('OK')
    })

    test('that ends connections, as a load balancer does, costs no call', async () => {
      const valkey = open(redis)
      const key = keyOn(redis, 0)
      await valkey.command('SET', key, [0])
      for (let times = 0; times < 8; times += 1) {
        await redis.nodes[0].admin('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
        expect(await valkey.command('GET', key)).toBe('0')
      }
    })

    test('that is killed fails at once for its own keys, serves the others, and is back after its start', async () => {
      const valkey = open(redis)
      const keys = redis.nodes.map((_, node) => keyOn(redis, node))
      const [mine = '', ...others] = keys
      for (const key of keys) await valkey.command('SET', key, ['x'])
      await redis.nodes[0].kill()
      await failure(valkey.command('GET', mine))
      expect(await failsAtOnce(valkey.command('GET', mine))).toBe(true)
      const until = Date.now() + BACK_OFF_MS * 3
      while (Date.now() < until) {
        await failure(valkey.command('GET', mine))
        for (const key of others) expect(await valkey.command('GET', key)).toBe('x')
        await sleep(5)
      }
      await redis.nodes[0].restart()
      await recovered(() => valkey.command('SET', mine, ['y']))
    })

    test('that is frozen costs one time limit, then nothing, and is back when it thaws', async () => {
      const valkey = open(redis)
      const keys = redis.nodes.map((_, node) => keyOn(redis, node))
      const [mine = '', ...others] = keys
      for (const key of keys) await valkey.command('SET', key, ['x'])
      const hasty = open(redis, { commandMs: 1_000, backOffMs: 60_000 })
      await hasty.command('GET', mine)
      redis.nodes[0].freeze()
      try {
        const { ms, result } = await timed(() =>
          Promise.all(Array.from({ length: 1_000 }, () => failure(hasty.command('GET', mine)))),
        )
        expect(ms).toBeGreaterThan(980)
        expect(ms).toBeLessThan(PATIENCE_MS)
        expect(result.every(({ mayHaveRun }) => mayHaveRun)).toBe(true)
        expect(await failsAtOnce(hasty.command('GET', mine))).toBe(true)
        for (const key of others) expect(await valkey.command('GET', key)).toBe('x')
        // A new connection: here its login is what is not answered.
        const fresh = open(redis, { commandMs: 1_000, connectMs: 1_000 })
        expect((await timed(() => failure(fresh.command('GET', mine)))).ms).toBeLessThan(PATIENCE_MS)
        redis.nodes[0].thaw()
        await recovered(() => fresh.command('GET', mine))
      } finally {
        redis.nodes[0].thaw()
      }
      expect(await valkey.command('GET', mine)).toBe('x')
    })

    test('that was frozen while nobody looked is given up by the first who does', async () => {
      const valkey = open(redis, { quietMs: 50, commandMs: 1_000, connectMs: 1_000 })
      const key = keyOn(redis, 0)
      await recovered(() => valkey.command('SET', key, ['x']))
      redis.nodes[0].freeze()
      await sleep(100)
      const { ms } = await timed(() => failure(valkey.command('GET', key)))
      redis.nodes[0].thaw()
      expect(ms).toBeLessThan(PATIENCE_MS)
      await recovered(() => valkey.command('GET', key))
    })
  })

describeWithRedis('the cache behind a slow road', () => {
  let redis: BreakableRedis
  let proxy: Awaited<ReturnType<typeof startSlowProxy>>
  beforeAll(async () => {
    redis = await startRedis('single')
  })
  afterAll(() => redis?.close())
  beforeEach(async () => {
    proxy = await startSlowProxy(redis.nodes[0].port)
    return () => proxy.close()
  })
  const road = (changes: Partial<ValkeyOptions>) =>
    open(redis, { ...changes, endpoints: [{ host: '127.0.0.1', port: proxy.port }] })

  test('that says nothing more, without breaking, is left for a new one where it was quiet', async () => {
    const valkey = road({ quietMs: 50, commandMs: 500 })
    const key = tagged()
    await recovered(() => valkey.command('SET', key, ['x']))
    proxy.silence()
    await sleep(100)
    const { ms } = await timed(() => recovered(() => valkey.command('GET', key)))
    expect(ms).toBeLessThan(PATIENCE_MS)
  })

  test('answers late: nothing waits for longer than the limit, and it goes on when the road is good', async () => {
    const valkey = road({ commandMs: 300 })
    const key = tagged()
    await recovered(() => valkey.command('SET', key, ['x']))
    proxy.delay(PATIENCE_MS)
    expect((await timed(() => failure(valkey.command('GET', key)))).ms).toBeLessThan(PATIENCE_MS)
    proxy.delay(0)
    await recovered(() => valkey.command('GET', key))
    expect(proxy.connections()).toBe(1)
  })

  test.each([
    { once: false, counted: '2' },
    { once: true, counted: '1' },
  ])('that breaks under a call is taken again, unless the call is for once ($once)', async (given) => {
    const valkey = road({})
    const key = tagged()
    await valkey.command('GET', key)
    proxy.hold()
    const answer = valkey.command('INCR', key, [], { once: given.once }).catch((error) => error)
    while ((await redis.nodes[0].admin('GET', key)) !== '1') await sleep(5)
    proxy.cut()
    if (given.once) expect(await answer).toMatchObject({ name: 'Unreachable', mayHaveRun: true })
    else expect(await answer).toBe(2)
    expect(await valkey.command('GET', key)).toBe(given.counted)
  })
})

describeWithRedis('a cluster', () => {
  let redis: BreakableRedis
  beforeAll(async () => {
    redis = await startRedis('cluster')
  })
  afterAll(() => redis?.close())
  const node = (index: number): BreakableNode => redis.nodes[index] ?? expect.fail('no such node')

  test('is not spoken to where its certificate is another authority’s', async () => {
    const { tls: other } = await sharedRedis('cluster')
    const valkey = open(redis, { tls: other })
    const { cause } = await failure(valkey.command('GET', tagged()))
    expect(String((cause as Unreachable).cause ?? cause)).toMatch(/self-signed|unable to verify|certificate/)
    await failure(open(redis, { tls: true }).command('GET', tagged()))
  })

  test('is not spoken to under a name that its certificate does not have', async () => {
    const endpoints = [{ host: 'localhost', port: redis.nodes[0].port }] as const
    const { cause } = await failure(open(redis, { endpoints }).command('GET', tagged()))
    expect(String((cause as Unreachable).cause ?? cause)).toContain('localhost')
  })

  test('is not spoken to in plain text', async () => {
    await failure(open(redis, { tls: false }).command('GET', tagged()))
  })

  test('withholds what ElastiCache serverless withholds', async () => {
    const valkey = open(redis)
    const withheld = [
      ['FCALL', 'f', '0'],
      ['KEYS', '*'],
      ['WATCH', 'k'],
      ['FUNCTION', 'LIST'],
      ['CONFIG', 'GET', '*'],
    ]
    for (const [command = '', key = '', ...args] of withheld)
      await expect(valkey.command(command, key, args)).rejects.toMatchObject({ code: 'NOPERM' })
    const script = defineScript('keys', `return redis.call('keys', KEYS[1])`)
    await expect(valkey.run(script, ['*'])).rejects.toBeInstanceOf(RefusedCommand)
  })

  test('is found by any one of its servers', async () => {
    for (const endpoint of redis.endpoints) {
      const valkey = open(redis, { endpoints: [endpoint] })
      for (const index of [0, 1, 2]) expect(await valkey.command('GET', keyOn(redis, index))).toBeNull()
    }
  })

  test('is found while one of its servers is down', async () => {
    await node(1).kill()
    const valkey = open(redis)
    expect(await valkey.command('GET', keyOn(redis, 0))).toBeNull()
    expect(await valkey.command('GET', keyOn(redis, 2))).toBeNull()
    await failure(valkey.command('GET', keyOn(redis, 1)))
    await node(1).restart()
    await recovered(() => valkey.command('GET', keyOn(redis, 1)))
  })

  test('is followed while a slot moves, and after', async () => {
    const valkey = open(redis)
    const key = keyOn(redis, 0)
    const slot = String(slotOf(key))
    await valkey.command('SET', key, ['x'])
    const [first, last] = [node(0), node(2)] as const
    type Server = typeof first
    const idOf = async ({ admin }: Server): Promise<string> => String(await admin('CLUSTER', 'MYID'))
    const begin = async (from: Server, to: Server): Promise<void> => {
      await to.admin('CLUSTER', 'SETSLOT', slot, 'IMPORTING', await idOf(from))
      await from.admin('CLUSTER', 'SETSLOT', slot, 'MIGRATING', await idOf(to))
    }
    // The importing server is told first, and takes a new epoch. Without one, what it hears of the slot from
    // the other in between undoes the change.
    const end = async (from: Server, to: Server): Promise<void> => {
      const id = await idOf(to)
      for (const { admin } of [to, from, node(1)]) await admin('CLUSTER', 'SETSLOT', slot, 'NODE', id)
    }
    await begin(first, last)
    // Not on the old server: it says who might have it.
    expect(await valkey.command('SET', `${key}new`, ['y'])).toBe('OK')
    expect(await valkey.command('GET', `${key}new`)).toBe('y')
    expect(await valkey.command('GET', key)).toBe('x')
    await first.admin('DEL', key)
    await end(first, last)
    expect(await valkey.command('GET', `${key}new`)).toBe('y')
    expect(await valkey.run(APPEND, [`${key}l`, `${key}h`], ['a'])).toEqual([1, 'a', null])
    await last.admin('DEL', `${key}new`, `${key}l`, `${key}h`)
    await begin(last, first)
    await end(last, first)
    expect(await valkey.command('GET', key)).toBeNull()
  })

  test('takes a new password for new connections, when the old one has ended', async () => {
    const old = redis.login?.password ?? ''
    let password = old
    // One that is known: connections to the others are made when their keys are asked for.
    const [endpoint] = redis.endpoints
    const valkey = open(redis, { endpoints: [endpoint], password: async () => password })
    const [first = '', ...others] = [0, 1, 2].map((index) => keyOn(redis, index))
    await valkey.command('SET', first, ['x'])
    await redis.changePassword('the second')
    try {
      expect(await valkey.command('GET', first)).toBe('x')
      for (const key of others) {
        const { cause } = await failure(valkey.command('GET', key))
        expect(String(cause)).toContain('WRONGPASS')
        expect(JSON.stringify(cause)).not.toContain(password)
      }
      password = 'the second'
      await Promise.all(redis.nodes.map(({ admin }) => admin('CLIENT', 'KILL', 'USER', 'turnkeep')))
      for (const key of [first, ...others]) await recovered(() => valkey.command('GET', key))
    } finally {
      await redis.changePassword(old)
    }
  })

  test('that gives the slots of a dead server to another one is served by that one', async () => {
    const valkey = open(redis)
    const key = keyOn(redis, 1)
    await valkey.command('SET', key, ['x'])
    await node(1).kill()
    await failure(valkey.command('GET', key))
    await redis.replace(1, 2)
    await recovered(() => valkey.command('SET', key, ['y']))
    expect(await valkey.command('GET', key)).toBe('y')
  })
})
