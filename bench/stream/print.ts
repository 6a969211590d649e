import { amount, table } from '../../lib/cost/table.ts'
import type { StreamingFigures } from './section.ts'
import type { Soak } from './soak.ts'

const orDash = (value: number | null): string => (value === null ? '–' : amount(value))

/** Tables for people, aims last. */
export function printStreaming(figures: StreamingFigures): void {
  const {
    rounds,
    latency,
    processor,
    allocations,
    openStreams,
    resume,
    readers,
    soak,
    aims,
    leftOut,
    complaints,
  } = figures
  const show = (title: string, rows: Record<string, string>[]): void =>
    console.log(`\n${title}\n\n${rows.length > 0 ? table(rows) : 'not measured here'}`)

  show(
    `Milliseconds to the first token and to the whole answer, 20 ms a token; added and times: of direct, the openai client alone, in the same of ${rounds.latency} rounds; of fewer than 100 answers p99 is near the slowest`,
    latency.map(({ subject, clients, start, modelFirstMs, answers, firstToken, whole, busyPercent }) => ({
      clients: `${clients} ${clients > 1 ? start : ''}`.trim(),
      'model’s first': amount(modelFirstMs),
      subject,
      answers: amount(answers),
      'first p50': amount(firstToken.p50Ms),
      p99: amount(firstToken.p99Ms),
      added: amount(firstToken.addedMs),
      'least–most': `${amount(firstToken.addedLeastMs)}–${amount(firstToken.addedMostMs)}`,
      times: amount(firstToken.timesDirect),
      'whole p50': amount(whole.p50Ms),
      'p99 ': amount(whole.p99Ms),
      'added ': amount(whole.addedMs),
      'times ': amount(whole.timesDirect),
      'machine busy %': amount(busyPercent),
    })),
  )
  show(
    'Processor milliseconds of 1,000 tokens at 20 ms each, turns included, 100 clients',
    latency
      .filter(({ clients, start }) => clients === 100 && start === 'spread')
      .map(({ subject, processorMsPer1000Tokens, processorTimesRelay, servicesMsPer1000Tokens }) => ({
        subject,
        'its own process': orDash(processorMsPer1000Tokens),
        'times relay': orDash(processorTimesRelay),
        'services under it': orDash(servicesMsPer1000Tokens),
      })),
  )
  show(
    'Processor milliseconds of the subject’s process, no delay between tokens, 10 clients',
    (processor ?? []).map(({ subject, msPer1000Tokens, timesRelay, msPer1000More, msPerTurn }) => ({
      subject,
      'a turn of 1,000 tokens': amount(msPer1000Tokens),
      'times relay': amount(timesRelay),
      '1,000 tokens more': amount(msPer1000More),
      'a turn without tokens': amount(msPerTurn),
    })),
  )
  show(
    'Memory: MiB that the subject’s process allocates on its heap, no delay between tokens, 10 clients',
    allocations.map(({ subject, mibPer1000Tokens, timesRelay }) => ({
      subject,
      'a turn of 1,000 tokens': amount(mibPer1000Tokens),
      'times relay': amount(timesRelay),
    })),
  )
  show(
    'Memory: none open, and each of 100 open streams',
    openStreams.map(
      ({ subject, residentMib, usedMib, residentKibPerStream, usedKibPerStream, usedTimesRelay }) => ({
        subject,
        'resident MiB': amount(residentMib),
        'used MiB': amount(usedMib),
        'resident KiB each': amount(residentKibPerStream),
        'used KiB each': amount(usedKibPerStream),
        'times relay': amount(usedTimesRelay),
      }),
    ),
  )
  show(
    'Resume: milliseconds to the first replayed event; of the relay, to the first token of the same answer, which its model says at once',
    resume.map(({ subject, answer, readings, p50Ms, p99Ms, timesRelay }) => ({
      subject,
      answer,
      readings: amount(readings),
      p50: amount(p50Ms),
      p99: amount(p99Ms),
      'times relay': amount(timesRelay),
    })),
  )
  show(
    'Readers of one answer of 50 tokens; times relay: of as many answers of their own, at the same pace, and said at once',
    readers.map((one) => ({
      subject: one.subject,
      readers: amount(one.readers),
      'last is behind by ms': amount(one.behindMs),
      'processor ms each': orDash(one.processorMsEach),
      'times the answer’s': orDash(one.timesAnswer),
      'times relay': orDash(one.timesRelay),
      'ended: all have it in ms': amount(one.endedWholeMs),
      'times relay ': amount(one.endedTimesRelay),
      'ended: processor ms each': orDash(one.endedProcessorMsEach),
      ' times relay': orDash(one.endedProcessorTimesRelay),
    })),
  )
  if (soak) console.log(`\n${soakWords(soak)}`)
  for (const what of leftOut) console.log(`\nLeft out: ${what}`)
  for (const what of complaints) console.log(`\nComplaint of ${what}`)
  show(
    'Aims',
    aims.map(({ what, figure, kept }) => ({ aim: what, figure, result: kept ? 'ok' : 'missed' })),
  )
}

function soakWords({ seconds, answers, samples, resident, residentAtLast, used }: Soak): string {
  const of = (slope: Soak['used']) =>
    `${amount(slope.mibAnHour)} ± ${amount(slope.errorMibAnHour)} MiB an hour: ${slope.verdict}`
  const last = samples.at(-1)
  return [
    `Soak: ${amount(answers)} answers in ${seconds} s of steady traffic.`,
    `Resident ${last?.residentMib} MiB, after warm-up ${of(resident)}; in the last quarter ${of(residentAtLast)}.`,
    `Used ${last?.usedMib} MiB, after warm-up ${of(used)}.`,
  ].join('\n')
}
