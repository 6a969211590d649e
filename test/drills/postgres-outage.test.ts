import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type CrashablePostgres, startEmbeddedServer } from '../harness/postgres-server.ts'
import { type DrillCloud, inEveryPhase, inPhase, type Phase, rounds, startDrillCloud } from './drill-cloud.ts'
import { questionText } from './drill-model.ts'
import { type Fate, passAll } from './fault-proxy.ts'
import { createRandom, type Random } from './random.ts'
import { conclude } from './report.ts'
import { ask, read, type Sighting, sessionOf } from './returning-client.ts'

const OUTAGES = rounds(8, 1)
/** Past every lease, so that whoever comes back first finds the writers' leases run out. */
const SHORTEST_OUTAGE_MS = 2_500
const LONGEST_OUTAGE_MS = rounds(15_000, 3_500)
const SLOW_ROUNDS = rounds(4, 1)
const IN_FLIGHT = 5
const TURNS_MEANWHILE = 3

let postgres: CrashablePostgres
let cloud: DrillCloud
/** Another tab, which tries until the store answers again: it is the first to meet a lease that ran out meanwhile. */
async function comeBack(messageId: string): Promise<Sighting> {
  for (const until = Date.now() + 30_000; Date.now() < until; await sleep(20)) {
    const reader = await read(cloud.as({ userId: 'reader', role: 'agent' }), messageId)
    if (reader.events.length > 0) return reader
  }
  throw new Error(`${messageId} cannot be read any more`)
}

/** Asks, and resolves `spoken` with the first token. */
function askAloud(name: string, pieces: number) {
  const spoken = Promise.withResolvers<string>()
  const seen = ask(cloud.as({ userId: name }), {
    question: questionText({ name, pieces, delayMs: 50 }),
    key: name,
    onEvent: ({ event }, soFar) => {
      if (event.type === 'token') spoken.resolve(sessionOf({ events: soFar })?.messageId ?? '')
      return false
    },
  })
  return { seen, spoken: spoken.promise }
}

async function beRefused(): Promise<Sighting[]> {
  const refused = await cloud.as().fetch('POST', '/api/chat/stream', { message: 'is anybody there?' })
  expect(refused.status).toBe(503)
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
  await refused.text()
  return []
}

/** A conversation that begins while Postgres is away. */
async function chatOn(round: number): Promise<Sighting[]> {
  const user = cloud.as({ userId: `meanwhile ${round}` })
  const sightings: Sighting[] = []
  for (let turn = 0; turn < TURNS_MEANWHILE; turn += 1) {
    const sessionId = sightings[0] && sessionOf(sightings[0])?.sessionId
    const question = questionText({ name: `meanwhile ${round}.${turn}`, pieces: 2, delayMs: 10 })
    const seen = await ask(user, { question, returns: false, ...(sessionId && { sessionId }) })
    expect(seen.events.at(-1)?.event).toMatchObject({ type: 'done', metadata: { contextLength: 2 * turn } })
    sightings.push(seen)
  }
  return sightings
}

/**
 * Stops Postgres under running answers, starts it again; returns what clients saw. What is new is refused meanwhile, and
 * in phase 2 answered.
 */
async function outage(
  { redis }: Phase,
  round: number,
  pieces: () => number,
  random: Random,
  readers: boolean,
): Promise<Sighting[]> {
  const running = Array.from({ length: IN_FLIGHT }, (_, answer) =>
    askAloud(`outage ${round}, ${answer}`, pieces()),
  )
  const messageIds = await Promise.all(running.map(({ spoken }) => spoken))
  await sleep(random.integer(300))
  await postgres.crash()
  const lasts = SHORTEST_OUTAGE_MS + random.integer(LONGEST_OUTAGE_MS - SHORTEST_OUTAGE_MS)
  const restarted = sleep(lasts).then(postgres.restart)
  const meanwhile = await (redis ? chatOn(round) : beRefused())
  // Somebody who keeps trying is answered in the end.
  const patient = askAloud(`outage ${round}, patient`, 5)
  const reading = readers ? messageIds.map(comeBack) : []
  // The writers are the last whom the store answers again: whoever reads has found their leases run out by then.
  if (readers)
    cloud.proxy.decide = ({ operation, moment }) =>
      operation === 'append_events' && moment === 'before' ? { status: 500 } : 'pass'
  await restarted
  await Promise.all(reading)
  cloud.proxy.decide = passAll
  return [
    ...meanwhile,
    ...(await Promise.all([...running.map(({ seen }) => seen), patient.seen, ...reading])),
  ]
}

const outages = [
  { fault: 'Postgres stopped; answers end meanwhile', shortest: 10, readers: false },
  { fault: 'Postgres stopped; answers outlive it', shortest: 100, readers: true },
]

inEveryPhase((phase) => {
  beforeEach(async () => {
    postgres = await startEmbeddedServer()
    cloud = await startDrillCloud({ phase, databaseUrl: postgres.url, environment: { LEASE_SECONDS: '2' } })
  })
  afterEach(async () => {
    await cloud.close()
    await postgres.close()
  })

  // What outlives the outage in phase 2 is one more answer that ends: the leases are not in Postgres.
  test.each(outages)(
    '$fault: no turn is lost',
    { timeout: 600_000 },
    async ({ fault, shortest, readers }) => {
      const random = createRandom()
      const sightings: Sighting[] = []
      for (let round = 0; round < OUTAGES; round += 1)
        sightings.push(
          ...(await outage(phase, round, () => shortest + random.integer(shortest), random, readers)),
        )
      const leniency = { logMayLag: true }
      await conclude(cloud, { fault: inPhase(fault, phase), rounds: OUTAGES, sightings, random, leniency })
      for (const { events, question } of sightings)
        if (question !== undefined)
          expect(events.at(-1)?.event, `DRILL_SEED=${random.seed}: ${question}`).toMatchObject({
            type: 'done',
          })
    },
  )

  test('no turn is lost when Postgres is slow by seconds', { timeout: 600_000 }, async () => {
    await cloud.killFunctions({ restart: false })
    await cloud.startFunctions({ LEASE_SECONDS: '15' })
    const random = createRandom()
    const sightings: Sighting[] = []
    for (let round = 0; round < SLOW_ROUNDS; round += 1) {
      const running = Array.from({ length: IN_FLIGHT }, (_, answer) =>
        askAloud(`slow ${round}, ${answer}`, 20 + random.integer(40)),
      )
      await Promise.all(running.map(({ spoken }) => spoken))
      cloud.proxy.decide = async ({ service, moment }): Promise<Fate> => {
        if (service === 'database' && moment === 'before') await sleep(500 + random.integer(2_500))
        return 'pass'
      }
      sightings.push(await askAloud(`slow ${round}, from the start`, 10).seen)
      sightings.push(...(await Promise.all(running.map(({ seen }) => seen))))
      cloud.proxy.decide = passAll
    }
    for (const { events, question } of sightings)
      expect(events.at(-1)?.event, question).toMatchObject({ type: 'done' })
    const fault = inPhase('Postgres slow by seconds', phase)
    await conclude(cloud, { fault, rounds: SLOW_ROUNDS, sightings, random })
  })
})
