import { afterAll, beforeAll, expect, test } from 'vitest'
import type { NumberedEvent, ReplyEvent } from '../../lambdas/protocol/chat.ts'
import type { ApiClient } from '../harness/client.ts'
import { type DrillCloud, inEveryPhase, inPhase, isLong, startDrillCloud } from './drill-cloud.ts'
import { questionText } from './drill-model.ts'
import { createRandom } from './random.ts'
import { conclude } from './report.ts'
import { type Sighting, sessionOf, takeIn, terminalOf } from './returning-client.ts'

/** Of all offsets, those that the short form tries. */
const SHORT_FORM = 80
const AT_ONCE = 8

let cloud: DrillCloud

/** Whole events of what arrived up to an offset, which may lie within one, or within a character. */
const eventsIn = (bytes: Uint8Array): NumberedEvent[] =>
  [...new TextDecoder().decode(bytes).matchAll(/id: (\d+)\ndata: (.*)\n\n/g)].map(([, id, data]) => ({
    id: Number(id),
    event: JSON.parse(data ?? '') as ReplyEvent,
  }))

/** Reads at most so many bytes, then cuts the connection. */
async function firstBytes(response: Response, count: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let size = 0
  if (response.body === null) return new Uint8Array()
  for await (const chunk of response.body) {
    chunks.push(chunk)
    size += chunk.length
    if (size >= count) break // which cancels the body
  }
  return Buffer.concat(chunks).subarray(0, count)
}

async function askAndCut(
  client: ApiClient,
  question: string,
  key: string,
  offset: number,
): Promise<Sighting> {
  const sighting: Sighting = { question, events: [], problems: [], refused: undefined }
  const headers = { 'idempotency-key': key }
  const post = () => client.fetch('POST', '/api/chat/stream', { message: question }, headers)
  takeIn(sighting, eventsIn(await firstBytes(await post(), offset)))
  if (terminalOf(sighting)) return sighting
  const session = sessionOf(sighting)
  // Cut before it knew which answer it gets, a client has its key only.
  const rest = session
    ? await client.fetch('GET', `/api/chat/stream/${session.messageId}`, undefined, {
        'last-event-id': String(sighting.events.length - 1),
      })
    : await post()
  takeIn(sighting, eventsIn(await firstBytes(rest, Number.POSITIVE_INFINITY)))
  return sighting
}

inEveryPhase((phase) => {
  beforeAll(async () => {
    cloud = await startDrillCloud({ phase, name: 'cuts', environment: { LEASE_SECONDS: '15' } })
  })
  afterAll(() => cloud.close())

  test('a client that is cut at any byte gets every event once', { timeout: 900_000 }, async () => {
    const random = createRandom()
    const question = (offset: number) =>
      questionText({ name: `cut ${String(offset).padStart(5, '0')}`, pieces: 3, delayMs: 5 })
    const user = cloud.as()
    const whole = await user.fetch('POST', '/api/chat/stream', { message: question(99_999) })
    const length = (await whole.arrayBuffer()).byteLength
    const stride = isLong ? 1 : Math.floor(length / SHORT_FORM)
    const offsets: number[] = []
    for (let offset = random.integer(stride); offset <= length; offset += stride) offsets.push(offset)

    const sightings: Sighting[] = []
    const waiting = [...offsets]
    const worker = async (): Promise<void> => {
      for (let offset = waiting.shift(); offset !== undefined; offset = waiting.shift())
        sightings.push(await askAndCut(user, question(offset), `cut ${offset}`, offset))
    }
    await Promise.all(Array.from({ length: AT_ONCE }, worker))

    for (const sighting of sightings) expect(terminalOf(sighting), sighting.question).toBeDefined()
    const fault = inPhase('client cut at every byte', phase)
    await conclude(cloud, { fault, rounds: offsets.length, sightings, random })
  })
})
