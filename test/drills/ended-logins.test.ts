/** A cache whose tokens and connections end: seconds stand for ElastiCache's minutes and hours. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type CacheDoor, openDoor } from '../harness/cache-door.ts'
import { type BreakableRedis, describeWithRedis, startRedis } from '../harness/redis.ts'
import { type DrillCloud, rounds, startDrillCloud } from './drill-cloud.ts'
import { questionText } from './drill-model.ts'
import { conclude } from './report.ts'
import { ask, type Sighting, sessionOf } from './returning-client.ts'

const CACHE = 'turnkeep-drill-cache'
const USER = 'turnkeep-drill-functions'
/** 900 there. */
const TOKEN_SECONDS = 1
/** 12 hours there. */
const CONNECTION_MS = 1_500
const CONVERSATIONS = 5
const LASTS_MS = rounds(60_000, 8_000)

describeWithRedis('a cache that asks for tokens', () => {
  let cache: BreakableRedis
  let door: CacheDoor
  let cloud: DrillCloud
  beforeAll(async () => {
    cache = await startRedis('single')
    door = await openDoor({
      port: cache.nodes[0].port,
      cacheName: CACHE,
      userName: USER,
      tokenSeconds: TOKEN_SECONDS,
      connectionMs: CONNECTION_MS,
    })
    cloud = await startDrillCloud({
      cache,
      name: 'logins',
      environment: {
        VALKEY_URL: `redis://${USER}@127.0.0.1:${door.port}`,
        VALKEY_CACHE_NAME: CACHE,
        LEASE_SECONDS: '15',
      },
    })
  })
  afterAll(async () => {
    await cloud.close()
    door.close()
  })

  test('ends tokens and connections, and is asked on with new ones', { timeout: 300_000 }, async () => {
    const until = Date.now() + LASTS_MS
    const talk = async (index: number): Promise<Sighting[]> => {
      const user = cloud.as({ userId: `login ${index}` })
      const seen: Sighting[] = []
      for (let turn = 0; Date.now() < until; turn += 1) {
        const sessionId = seen[0] && sessionOf(seen[0])?.sessionId
        const question = questionText({ name: `login ${index}.${turn}`, pieces: 10, delayMs: 30 })
        seen.push(await ask(user, { question, returns: false, ...(sessionId && { sessionId }) }))
      }
      return seen
    }
    const conversations = await Promise.all(Array.from({ length: CONVERSATIONS }, (_, index) => talk(index)))
    expect(door.refused).toEqual([])
    expect(new Set(door.tokens).size).toBeGreaterThan(LASTS_MS / CONNECTION_MS / 2)
    const fault = 'tokens and connections ended'
    const sightings = conversations.flat()
    const leniency = { logMayLag: true }
    await conclude(cloud, { fault, rounds: door.tokens.length, sightings, leniency })
    // It was the cache that they were opened in, all but those that a busy machine was too slow for.
    const opened = await cloud.rows('select message_id from chat_turns')
    expect(opened.length).toBeLessThan(sightings.length / 2)
  })
})
