/** Steady traffic for a long time: does the process that answers grow? */
import { setTimeout as sleep } from 'node:timers/promises'
import { rounded } from '../figures.ts'
import { subjectsOf } from './rounds.ts'
import type { Stack } from './stack.ts'

const CLIENTS = 20
const WANTED = { tokens: 100, tokenMs: 5 }
/** Between an answer and the next question: steady traffic, and something left of the machine. */
const PAUSE_MS = 1_000
const SAMPLES = 60
/** Of the time: code is compiled, caches fill. */
const WARM_UP_SHARE = 1 / 3
/** What the system has given the process finds its level last: V8 and malloc keep what they once had. */
const LAST_SHARE = 3 / 4
const MIB = 2 ** 20
const HOUR_SECONDS = 3_600
/** A line that lies so far from level is no accident: two standard errors. */
const CERTAIN_ERRORS = 2
/** What is less in an hour would take a function of 1 GB longer than its environment lives. */
const HARMLESS_MIB_AN_HOUR = 5

interface Slope {
  mibAnHour: number
  /** Standard error of that. */
  errorMibAnHour: number
  /** By more than is harmless, and certainly so; or certainly not. */
  verdict: 'it grows' | 'it does not grow' | 'too short to tell'
}

export interface Soak {
  seconds: number
  answers: number
  /** After a collection each; the first third is warm-up. */
  samples: { seconds: number; residentMib: number; usedMib: number }[]
  resident: Slope
  /** The same in the last quarter. */
  residentAtLast: Slope
  used: Slope
}

function verdictOn(mibAnHour: number, uncertain: number): Slope['verdict'] {
  if (mibAnHour - uncertain > HARMLESS_MIB_AN_HOUR) return 'it grows'
  return mibAnHour + uncertain > HARMLESS_MIB_AN_HOUR ? 'too short to tell' : 'it does not grow'
}

/** Undefined without the core. */
export async function soak(stack: Stack, seconds: number): Promise<Soak | undefined> {
  const [core] = subjectsOf(stack, 'core phase 1')
  if (!core?.process) return undefined
  const stop = new AbortController()
  let answers = 0
  /** While a sample is taken nobody asks: streams that are open would count as much as what stays of all before. */
  let sampled = Promise.resolve()
  const running = new Set<Promise<void>>()
  const traffic = stack.conversations.slice(0, CLIENTS).map(async (conversation) => {
    for (await sampled; !stop.signal.aborted; await sampled) {
      const answer = core.ask(conversation, WANTED).then(() => undefined)
      running.add(answer)
      await answer.finally(() => running.delete(answer))
      answers += 1
      await sleep(PAUSE_MS)
    }
  })
  const failed = Promise.all(traffic).then(() => undefined)
  failed.catch(() => undefined) // told below
  const samples: Soak['samples'] = []
  const startedAt = performance.now()
  for (let sample = 1; sample <= SAMPLES; sample += 1) {
    const left = startedAt + (sample / SAMPLES) * seconds * 1_000 - performance.now()
    await Promise.race([sleep(Math.max(0, left)), failed])
    const { promise, resolve } = Promise.withResolvers<void>()
    sampled = promise
    await Promise.all(running)
    const { residentBytes, usedBytes } = await core.process.memory()
    resolve()
    samples.push({
      seconds: rounded((performance.now() - startedAt) / 1_000),
      residentMib: rounded(residentBytes / MIB),
      usedMib: rounded(usedBytes / MIB),
    })
  }
  stop.abort()
  await failed
  return {
    seconds,
    answers,
    samples,
    ...slopesOf(samples, seconds),
  }
}

function slopesOf(
  samples: Soak['samples'],
  seconds: number,
): Pick<Soak, 'resident' | 'residentAtLast' | 'used'> {
  const slope = (share: number, pick: (sample: Soak['samples'][number]) => number): Slope => {
    const points = samples
      .filter((sample) => sample.seconds > seconds * share)
      .map((sample) => ({ x: sample.seconds / HOUR_SECONDS, y: pick(sample) }))
    const { slope: mibAnHour, error } = slopeOf(points)
    return {
      mibAnHour: rounded(mibAnHour),
      errorMibAnHour: rounded(error),
      verdict: verdictOn(mibAnHour, CERTAIN_ERRORS * error),
    }
  }
  return {
    resident: slope(WARM_UP_SHARE, ({ residentMib }) => residentMib),
    residentAtLast: slope(LAST_SHARE, ({ residentMib }) => residentMib),
    used: slope(WARM_UP_SHARE, ({ usedMib }) => usedMib),
  }
}

/** A line through points by least squares: its slope, and the standard error of that. */
function slopeOf(points: readonly { x: number; y: number }[]): { slope: number; error: number } {
  const mean = (pick: (point: { x: number; y: number }) => number) =>
    points.reduce((sum, point) => sum + pick(point), 0) / points.length
  const [meanX, meanY] = [mean(({ x }) => x), mean(({ y }) => y)]
  const spread = points.reduce((sum, { x }) => sum + (x - meanX) ** 2, 0)
  const slope = points.reduce((sum, { x, y }) => sum + (x - meanX) * (y - meanY), 0) / spread
  const rest = points.reduce((sum, { x, y }) => sum + (y - meanY - slope * (x - meanX)) ** 2, 0)
  return { slope, error: Math.sqrt(rest / (points.length - 2) / spread) }
}
