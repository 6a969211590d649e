/** An answer of 5 MB, which is more than any one value should be. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type DrillCloud, inPhaseTwo, startDrillCloud } from './drill-cloud.ts'
import { createRandom } from './random.ts'
import { conclude } from './report.ts'
import { ask, read, sessionOf, tokensOf } from './returning-client.ts'

/** Hangul takes three bytes each, and what does not repeat is not made smaller. */
const CHARACTERS = 1_750_000
const LEAST_BYTES = 5_000_000
const PIECE = 70_000
const FIRST_SYLLABLE = 0xac00
const SYLLABLES = 11_172
const MOST_KEPT_BYTES = 100_000

const random = createRandom(1)
const hangul = Array.from({ length: CHARACTERS }, () =>
  String.fromCharCode(FIRST_SYLLABLE + random.integer(SYLLABLES)),
).join('')
const pieces = Array.from({ length: CHARACTERS / PIECE }, (_, index) =>
  hangul.slice(index * PIECE, (index + 1) * PIECE),
)

inPhaseTwo((phase) => {
  let cloud: DrillCloud
  beforeAll(async () => {
    cloud = await startDrillCloud({
      phase,
      name: 'large',
      scriptedModel: {
        respond: ({ messages }) => ({
          content: messages.at(-1)?.content === '길게' ? pieces : ['짧게'],
          tokenDelayMs: 100,
        }),
      },
      environment: { LEASE_SECONDS: '6' },
    })
  })
  afterAll(() => cloud.close())

  test('is saved as it was written, kept out of the session, and does not stop the next turn', {
    timeout: 120_000,
  }, async () => {
    const user = cloud.as()
    const answer = await ask(user, { question: '길게', returns: false })
    expect(Buffer.byteLength(tokensOf(answer.events))).toBeGreaterThan(LEAST_BYTES)
    expect(tokensOf(answer.events) === hangul).toBe(true)
    expect(answer.events.at(-1)?.event).toMatchObject({ type: 'done' })
    const { sessionId = '', messageId = '' } = sessionOf(answer) ?? {}
    // Where the cache was too slow for a piece of it, the log knows less than the client does.
    const again = await read(cloud.as(), messageId)
    expect(hangul.startsWith(tokensOf(again.events))).toBe(true)

    // The text is in the bucket; beside the log the session holds a pointer to it.
    const admin = cloud.cache?.nodes.map(({ admin }) => admin) ?? []
    for (const key of (await cloud.cache?.keys('tk:*')) ?? [])
      if (!key.includes(':log:'))
        for (const ask of admin) {
          const bytes = await ask('MEMORY', 'USAGE', key).catch(() => 0)
          expect(Number(bytes), key).toBeLessThan(MOST_KEPT_BYTES)
        }
    const next = await ask(user, { question: '짧게', sessionId, returns: false })
    expect(next.events.at(-1)?.event).toMatchObject({ type: 'done', metadata: { sessionMessageCount: 4 } })
    const fault = phase.redis === 'cluster' ? 'an answer of 5 MB, a cluster' : 'an answer of 5 MB'
    await conclude(cloud, { fault, rounds: 1, sightings: [answer, next], leniency: { logMayLag: true } })
  })
})
