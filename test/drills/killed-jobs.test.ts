/** Kills the functions at each moment of each call of an erasure and of an export: either ends, and says what is true. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { S3Client } from '@aws-sdk/client-s3'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Message } from '../../lambdas/protocol/messages.ts'
import type { ErasureReceipt } from '../../lambdas/protocol/rights.ts'
import { download, erasureEnded, exportEnded, exported, type Line } from '../harness/rights.ts'
import { archiveNow, bucketOf, tracesOf } from '../harness/traces.ts'
import { describeStep, type Step } from './aim.ts'
import { type DrillCloud, isLong, startDrillCloud } from './drill-cloud.ts'
import { type Passage, passAll } from './fault-proxy.ts'
import { createRandom, pick } from './random.ts'

/** Kills of each job; the long form takes every moment of every call. */
const SHORT_FORM = 2
const STEP_WITHIN_MS = 8_000
const ENDED_WITHIN_MS = 60_000
const LARGE = '큰 글 😀 '.repeat(3_000)

let cloud: DrillCloud
let s3: S3Client
beforeAll(async () => {
  cloud = await startDrillCloud({ name: 'jobs', scriptedModel: { respond: () => ({ content: 'ok' }) } })
  s3 = bucketOf(cloud)
})
afterAll(() => cloud.close())

/** What the function api does for whoever asks is not the job's, nor is the download. */
const OF_API =
  /^(admit|get_user_job|read_user|request_\w+|unfinished_turns|save_records|count_users|lapsed_turns|(HEAD|GET) exports)$/

interface Followed {
  steps: Step[]
  hit: Promise<void>
  end(): void
}

/** Follows the calls of a job, while nothing else is done, and kills at one of them. */
function follow(aim?: string): Followed {
  const counts = new Map<string, number>()
  const numbers = new WeakMap<object, number>()
  const steps: Step[] = []
  const hit = Promise.withResolvers<void>()
  let left = aim
  cloud.proxy.decide = async ({ service, operation, moment, call }: Passage) => {
    if (service === 'queue' || OF_API.test(operation)) return 'pass'
    const like = `${service} ${operation}`
    if (moment === 'before') {
      counts.set(like, (counts.get(like) ?? 0) + 1)
      numbers.set(call, counts.get(like) ?? 0)
    }
    const step = { service, operation, nth: numbers.get(call) ?? 0, moment }
    steps.push(step)
    if (left !== describeStep(step)) return 'pass'
    left = undefined
    cloud.functions().kill('SIGKILL')
    hit.resolve()
    return 'break'
  }
  return {
    steps,
    hit: hit.promise,
    end: () => {
      cloud.proxy.decide = passAll
    },
  }
}

interface Person {
  userId: string
  /** Of somebody else, in the same object of the archive. */
  neighbour: { userId: string; sessionId: string; messages: Message[] }
}

/** What stands in everything that the user says, and nowhere else. */
const markOf = (userId: string): string => `«${userId}»`

/** Two conversations with large texts, one of them in the archive beside another user's, and an export. */
async function person(name: string): Promise<Person> {
  const [userId, other] = [`user ${name}`, `neighbour ${name}`]
  const ask = async (who: string, message: string) => {
    const { session, terminal } = await cloud.as({ userId: who }).ask(message)
    expect(terminal?.type).toBe('done')
    return session?.sessionId ?? ''
  }
  const old = await ask(userId, `${LARGE} ${markOf(userId)}`)
  const theirs = await ask(other, 'the question of somebody else')
  await cloud.drained()
  await archiveNow(cloud, s3, old, theirs)
  await ask(userId, `${LARGE} ${markOf(userId)}`)
  await cloud.drained()
  await exported(cloud.as({ userId }), userId)
  const messages = await cloud.as({ userId: other }).messages(theirs)
  return { userId, neighbour: { userId: other, sessionId: theirs, messages } }
}

interface Job<Result> {
  name: string
  method: 'POST' | 'DELETE'
  path: (userId: string) => string
  /** Waits for its end. */
  ended: (userId: string, id: string) => Promise<Result>
  /** What it must be, whatever happened. */
  truth: (result: Result) => unknown
  check: (person: Person, result: Result) => Promise<void>
}

const erasure: Job<ErasureReceipt> = {
  name: 'erasure',
  method: 'DELETE',
  path: (userId) => `/api/users/${encodeURIComponent(userId)}`,
  ended: (userId, id) => erasureEnded(cloud.as({ userId }), id, ENDED_WITHIN_MS),
  truth: ({ status, places }) => ({ status, places }),
  async check({ userId, neighbour }) {
    expect(await tracesOf(cloud, s3, markOf(userId))).toEqual([])
    expect(await cloud.as({ userId: neighbour.userId }).messages(neighbour.sessionId)).toEqual(
      neighbour.messages,
    )
  },
}
const KINDS = ['session', 'message', 'usage', 'audit']
const exporting: Job<{ lines: Line[] }> = {
  name: 'export',
  method: 'POST',
  path: (userId) => `/api/users/${encodeURIComponent(userId)}/export`,
  ended: async (userId, id) => {
    const answer = await exportEnded(cloud.as({ userId }), id, ENDED_WITHIN_MS)
    return { lines: await download(answer) }
  },
  // The audit log tells of each request.
  truth: ({ lines }) => KINDS.slice(0, 3).map((kind) => lines.filter((line) => line.kind === kind).length),
  async check({ userId }, { lines }) {
    const user = cloud.as({ userId })
    for (const session of lines.filter(({ kind }) => kind === 'session'))
      expect(
        lines.filter(({ kind, sessionId }) => kind === 'message' && sessionId === session.sessionId),
      ).toEqual(
        (await user.messages(String(session.sessionId))).map((message) => ({ kind: 'message', ...message })),
      )
  },
}

/** A connection that was open when the functions died may turn out to be closed by the time it is used. */
async function again<Result>(work: () => Promise<Result>): Promise<Result> {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof TypeError)) throw error
    return work()
  }
}

async function run<Result>(job: Job<Result>, { userId }: Person, aim?: string) {
  const followed = follow(aim)
  const request = () => cloud.as({ userId }).call<Record<string, string>>(job.method, job.path(userId))
  const { body } = await request()
  const id = body.erasureId ?? body.exportId ?? ''
  let isHit = false
  if (aim) {
    isHit = await Promise.race([followed.hit.then(() => true), sleep(STEP_WITHIN_MS).then(() => false)])
    if (isHit) {
      await cloud.killFunctions()
      await again(request) // The message comes back anyway, some seconds later.
    }
  }
  const result = await again(() => job.ended(userId, id))
  await sleep(100) // Its last call is answered.
  followed.end()
  return { result, isHit, steps: followed.steps }
}

describe.each([erasure, exporting] as unknown as Job<never>[])('a kill at each step of an $name', (job) => {
  test('costs nothing but time', { timeout: 1_800_000 }, async () => {
    const first = await person(`${job.name} undisturbed`)
    const undisturbed = await run(job, first)
    await job.check(first, undisturbed.result)
    const { steps } = undisturbed
    const calls = steps.filter(({ moment }) => moment === 'before').length
    expect(calls).toBeGreaterThan(10)
    const random = createRandom()
    const kills = isLong ? steps : pick(steps, SHORT_FORM, random)
    const missed: string[] = []
    for (const [round, kill] of kills.entries()) {
      const hurt = await person(`${job.name} ${round}.`)
      const { result, isHit } = await run(job, hurt, describeStep(kill)).catch((cause) => {
        throw new Error(`${describeStep(kill)}: ${cause}`, { cause })
      })
      if (!isHit) missed.push(describeStep(kill))
      expect(job.truth(result), `${describeStep(kill)}, DRILL_SEED=${random.seed}`).toEqual(
        job.truth(undisturbed.result),
      )
      await job.check(hurt, result)
    }
    console.log(
      `killed at each step: ${job.name} (${calls} calls): ${kills.length - missed.length} kills, all ended`,
    )
    expect(missed.length, missed.join()).toBeLessThanOrEqual(Math.ceil(kills.length / 4))
  })
})
