/** The lives of a turn whose every step is killed once: answered, abandoned, too large for a row, rescued, spooled. */
import type { Track } from './aim.ts'
import { type DrillCloud, LEASE_SECONDS } from './drill-cloud.ts'
import { keyOf, questionText } from './drill-model.ts'
import { ask, type Sighting } from './returning-client.ts'

export interface Scenario {
  name: string
  /** Its turns wait for `maintain`; all others must end without it, since it may be five minutes away. */
  spools?: true
  /** The question, and how long its answer is. */
  question: (round: string) => string
  /**
   * Plays up to where kills begin, then starts what is aimed at. Everything that asks for the answer goes on in the
   * background: the sighting is there when the client has heard the end.
   */
  play: (cloud: DrillCloud, track: Track, question: string, aimed: () => void) => Promise<Sighting>
}

const PIECES = { pieces: 6, delayMs: 60 }

const answered: Scenario['play'] = (cloud, _track, question, aimed) => {
  aimed()
  return ask(cloud.as(), { question, key: keyOf(question) })
}

/** Its client never comes back: whatever it saw is kept without its help. */
const abandoned: Scenario['play'] = (cloud, _track, question, aimed) => {
  aimed()
  return ask(cloud.as(), { question, returns: false })
}

const rescued: Scenario['play'] = async (cloud, track, question, aimed) => {
  const spoken = Promise.withResolvers<void>()
  const seen = ask(cloud.as(), {
    question,
    returns: false,
    onEvent: ({ event }) => {
      if (event.type === 'token') spoken.resolve()
      return false
    },
  })
  await Promise.race([spoken.promise, seen])
  await cloud.killFunctions()
  track.forget()
  aimed()
  return seen
}

const spooled: Scenario['play'] = async (cloud, track, question, aimed) => {
  track.refuse(({ operation }) => operation === 'SendMessageBatch')
  aimed()
  const seen = ask(cloud.as(), { question, key: keyOf(question) })
  void seen.then(() => {
    track.refuse(() => false)
    return cloud.cloud.runtimeApi.invoke('maintain', '{}').catch(() => undefined)
  })
  return seen
}

export const scenarios: Scenario[] = [
  {
    name: 'answer',
    question: (name) => questionText({ name, ...PIECES }),
    play: answered,
  },
  {
    name: 'abandoned',
    question: (name) => questionText({ name, ...PIECES }),
    play: abandoned,
  },
  {
    name: 'large answer',
    question: (name) => questionText({ name, pieces: 3, delayMs: 20, filling: 4_000 }).padEnd(9_000, '물'),
    play: answered,
  },
  {
    name: 'rescue',
    question: (name) => questionText({ name, pieces: 200, delayMs: 60 }),
    play: rescued,
  },
  {
    name: 'spool',
    question: (name) => questionText({ name, ...PIECES }),
    play: spooled,
    spools: true,
  },
]

/** By then a step that was aimed at has come, or does not come in this round. */
export const STEP_WITHIN_MS = (LEASE_SECONDS + 1) * 1_000 + 5_000
