import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type DrillCloud, inEveryPhase, inPhase, rounds, startDrillCloud } from './drill-cloud.ts'
import { questionText } from './drill-model.ts'
import { createRandom, type Random } from './random.ts'
import { conclude } from './report.ts'
import { ask, type Sighting, sessionOf, takeIn, terminalOf } from './returning-client.ts'

const PAIRS = rounds(200, 25)
const PAIRS_AT_ONCE = 4
const CROWDS = rounds(10, 1)
const READERS = 20

let cloud: DrillCloud

/** Comes late, leaves when it likes, goes on where it was, until it has heard the end. */
async function readInPieces(messageId: string, random: Random): Promise<Sighting> {
  const sighting: Sighting = { question: undefined, events: [], problems: [], refused: undefined }
  while (!terminalOf(sighting)) {
    await sleep(random.integer(400))
    const leaveAfter = sighting.events.length + 1 + random.integer(40)
    const last = sighting.events.at(-1)?.id
    const reply = await cloud
      .as()
      .stream(
        'GET',
        `/api/chat/stream/${messageId}${last === undefined ? '' : `?after=${last}`}`,
        undefined,
        {
          onEvent: ({ id }) => id >= leaveAfter,
        },
      )
    if (reply.status === 503) continue // the store was too slow for a moment
    if (reply.status !== 200) sighting.problems.push(`answered ${reply.status}`)
    if (reply.status !== 200) break
    takeIn(sighting, reply.events)
  }
  return sighting
}

inEveryPhase((phase) => {
  beforeAll(async () => {
    cloud = await startDrillCloud({ phase, name: 'crowds', environment: { LEASE_SECONDS: '15' } })
    await cloud.startFunctions() // a second instance: what is shared is shared by the store alone
  })
  afterAll(() => cloud.close())

  test('two clients with one key at one instant make one turn', { timeout: 300_000 }, async () => {
    const pairs: [Sighting, Sighting][] = []
    let next = 0
    const worker = async (): Promise<void> => {
      for (let pair = next++; pair < PAIRS; pair = next++) {
        const asking = {
          question: questionText({ name: `pair ${pair}`, pieces: 3, delayMs: 5 }),
          key: `pair ${pair}`,
        }
        pairs.push(await Promise.all([ask(cloud.as(), asking), ask(cloud.as(), asking)]))
      }
    }
    await Promise.all(Array.from({ length: PAIRS_AT_ONCE }, worker))
    for (const [one, other] of pairs) expect(other.events).toEqual(one.events)
    const { stored } = await conclude(cloud, {
      fault: inPhase('two clients, one key, one instant', phase),
      rounds: PAIRS,
      sightings: pairs.flat(),
    })
    expect(stored.turns).toHaveLength(PAIRS)
    expect(stored.messages).toHaveLength(PAIRS * 2)
  })

  test('readers who come and go at random all read the same', { timeout: 300_000 }, async () => {
    const random = createRandom()
    const sightings: Sighting[] = []
    for (let crowd = 0; crowd < CROWDS; crowd += 1) {
      const begun = Promise.withResolvers<string>()
      const asked = ask(cloud.as(), {
        question: questionText({ name: `crowd ${crowd}`, pieces: 120, delayMs: 25 }),
        onEvent: (_, events) => {
          begun.resolve(sessionOf({ events })?.messageId ?? '')
          return false
        },
      })
      const messageId = await begun.promise
      const readers = Array.from({ length: READERS }, () => readInPieces(messageId, random))
      const [original, ...read] = await Promise.all([asked, ...readers])
      for (const reader of read) expect(reader.events).toEqual(original?.events)
      sightings.push(original as Sighting, ...read)
    }
    const fault = inPhase(`${READERS} readers come and go`, phase)
    await conclude(cloud, { fault, rounds: CROWDS, sightings, random })
  })
})
