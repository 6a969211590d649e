/** What is aimed at, and whether it was reached. */
import { THINKING_MS, TOKEN_MS } from './question.ts'
import type { StreamingFigures } from './section.ts'

export interface Aim {
  what: string
  figure: string
  kept: boolean
}

/** Milliseconds; for one client. */
const MOST_ADDED = 3
const MOST_TIMES_RELAY = 1.5
const MOST_KIB_PER_STREAM = 200

type Measured = Pick<StreamingFigures, 'latency' | 'processor' | 'openStreams' | 'soak'>

/** Of the core in each phase that was measured. */
export function judge({ latency, processor, openStreams, soak }: Measured): Aim[] {
  const added = (subject: string, clients: number, start: string, modelFirstMs = TOKEN_MS) =>
    latency.find(
      (one) =>
        one.subject === subject &&
        one.clients === clients &&
        one.start === start &&
        one.modelFirstMs === modelFirstMs,
    )?.firstToken.addedMs ?? Number.NaN
  const isMeasured = (start: string) => latency.some((one) => one.clients === 100 && one.start === start)
  const cores = [...new Set(latency.map(({ subject }) => subject).filter((name) => name.startsWith('core')))]
  return [
    ...cores.flatMap((core) => [
      ...[TOKEN_MS, THINKING_MS].map((ms) =>
        aim(
          `${core}: first token at most ${MOST_ADDED} ms later, one client, a model that takes ${ms} ms`,
          added(core, 1, 'spread', ms),
          MOST_ADDED,
        ),
      ),
      ...(['spread', 'together'] as const)
        .filter(isMeasured)
        .map((start) =>
          aim(
            `${core}: first token no later than the plain relay's, 100 clients ${start}`,
            added(core, 100, start),
            added('relay', 100, start),
          ),
        ),
    ]),
    ...(processor ?? [])
      .filter(({ subject }) => subject.startsWith('core'))
      .map(({ subject, timesRelay }) =>
        aim(`${subject}: processor time of 1,000 tokens, times the relay's`, timesRelay, MOST_TIMES_RELAY),
      ),
    ...openStreams
      .filter(({ subject }) => subject.startsWith('core'))
      .map(({ subject, usedKibPerStream, residentKibPerStream }) =>
        aim(
          `${subject}: KiB in memory for an open stream`,
          Math.max(usedKibPerStream, residentKibPerStream),
          MOST_KIB_PER_STREAM,
        ),
      ),
    ...(soak && soak.used.verdict !== 'too short to tell'
      ? [
          {
            what: `core phase 1: no growth in ${soak.seconds} s of steady traffic`,
            figure: `${soak.used.mibAnHour} ± ${soak.used.errorMibAnHour} MiB an hour`,
            kept: soak.used.verdict === 'it does not grow',
          },
        ]
      : []),
  ]
}

const aim = (what: string, figure: number, most: number): Aim => ({
  what,
  figure: `${figure}, at most ${most}`,
  kept: figure <= most,
})
