import { amount, table } from '../../lib/cost/table.ts'
import type { StreamingFigures } from './section.ts'
import type { Soak } from './soak.ts'

const orDash = (value: number | null): string => (value === null ? '–' : amount(value))

/** Tables for people, aims last. */
export function printStreaming(figures: StreamingFigures): void {
  const { rounds, latency, processor, openStreams, resume, readers, soak, aims, leftOut, complaints } =
    figures
  const show = (title: string, rows: Record<string, string>[]): void =>
    console.log(`\n${title}\n\n${rows.length > 0 ? table(rows) : 'not measured here'}`)

  show(
    `Milliseconds to the first token and to the whole answer, 20 ms a token; added: over the openai client alone, median of ${rounds} rounds`,
    latency.map(({ subject, clients, start, modelFirstMs, answers, firstToken, whole, busyPercent }) => ({
      clients: `${clients} ${clients > 1 ? start : ''}`.trim(),
      'model’s first': amount(modelFirstMs),
      subject,
      answers: amount(answers),
      'first p50': amount(firstToken.p50Ms),
      p99: amount(firstToken.p99Ms),
      added: amount(firstToken.addedMs),
      'least–most': `${amount(firstToken.addedLeastMs)}–${amount(firstToken.addedMostMs)}`,
      'whole p50': amount(whole.p50Ms),
      'p99 ': amount(whole.p99Ms),
      'added ': amount(whole.addedMs),
      'machine busy %': amount(busyPercent),
    })),
  )
  show(
    'Processor milliseconds of 1,000 tokens at 20 ms each, turns included, 100 clients',
    latency
      .filter(({ clients, start }) => clients === 100 && start === 'spread')
      .map(({ subject, processorMsPer1000Tokens, servicesMsPer1000Tokens }) => ({
        subject,
        'its own process': orDash(processorMsPer1000Tokens),
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
    'Memory: none open, and each of 100 open streams',
    openStreams.map(({ subject, residentMib, usedMib, residentKibPerStream, usedKibPerStream }) => ({
      subject,
      'resident MiB': amount(residentMib),
      'used MiB': amount(usedMib),
      'resident KiB each': amount(residentKibPerStream),
      'used KiB each': amount(usedKibPerStream),
    })),
  )
  show(
    'Resume: milliseconds to the first replayed event',
    resume.map(({ subject, answer, readings, p50Ms, p99Ms }) => ({
      subject,
      answer,
      readings: amount(readings),
      p50: amount(p50Ms),
      p99: amount(p99Ms),
    })),
  )
  show(
    'Readers of one answer of 50 tokens',
    readers.map((one) => ({
      subject: one.subject,
      readers: amount(one.readers),
      'last is behind by ms': amount(one.behindMs),
      'processor ms each': orDash(one.processorMsEach),
      'times the answer’s': orDash(one.timesAnswer),
      'ended: all have it in ms': amount(one.endedWholeMs),
      'ended: processor ms each': orDash(one.endedProcessorMsEach),
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
