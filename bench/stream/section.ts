/**
 * Streaming beside the limit and the plain alternatives, all in one run: the model itself, a byte pipe, a plain relay, and
 * Turnkeep in both phases, its chat function alone and the whole product on one machine.
 */
import { type Aim, judge } from './aims.ts'
import { type Allocations, measureAllocations } from './allocations.ts'
import { type Latency, type Load, measureLatency, underLoad } from './latency.ts'
import { measureOpenStreams, type OpenStreams } from './open-streams.ts'
import { measureProcessor, type Spending } from './processor-time.ts'
import { THINKING_MS, TOKEN_MS } from './question.ts'
import { measureReaders, measureResume, type Readers, type Resume } from './readers.ts'
import { type Soak, soak } from './soak.ts'
import { type Stack, startStack } from './stack.ts'

export interface StreamingOptions {
  /** One round of what varies little, shorter answers where there are many clients, and no soak. */
  quick?: boolean
  /** Of everything, in place of the usual ones. */
  rounds?: number
  /** 0: none. */
  soakSeconds?: number
}

export interface StreamingFigures {
  rounds: Rounds
  latency: Latency[]
  /** Undefined where processor time cannot be seen. */
  processor: Spending[] | undefined
  allocations: Allocations[]
  openStreams: OpenStreams[]
  resume: Resume[]
  readers: Readers[]
  soak: Soak | undefined
  aims: Aim[]
  /** What could not be measured here, and why. */
  leftOut: string[]
  /** Of the subjects: what did not go its usual way. Figures beside many of them are of a machine that has too much to do. */
  complaints: string[]
}

/** By what is measured: times vary most, processor time takes least, and what is held and allocated varies little. */
interface Rounds {
  latency: number
  processor: number
  others: number
}

const ROUNDS = {
  quick: { latency: 3, processor: 3, others: 1 },
  usual: { latency: 3, processor: 6, others: 3 },
} satisfies Record<string, Rounds>
const CLIENTS = 100
const wanted = (tokens: number) => ({ tokens, tokenMs: TOKEN_MS })
const LOADS: Load[] = [
  { clients: 1, start: 'spread', turns: 8, wanted: wanted(12) },
  { clients: 1, start: 'spread', turns: 8, wanted: { ...wanted(4), firstMs: THINKING_MS } },
  { clients: 10, start: 'spread', turns: 3, wanted: wanted(25) },
  // As many open streams as clients, of which some begin at any time; and all of them at the same moment.
  { clients: CLIENTS, start: 'spread', turns: 2, wanted: wanted(100) },
  { clients: CLIENTS, start: 'together', turns: 1, wanted: wanted(25) },
]
const QUICK_LOADS = LOADS.filter(({ start }) => start === 'spread').map((load) =>
  load.clients === CLIENTS ? { ...load, turns: 1 } : load,
)
/** Three turns of each conversation: more than the five messages that the model is given. Some of them at a time. */
const HISTORY: Load = { clients: 10, start: 'together', turns: 3, wanted: { tokens: 60, tokenMs: 0 } }

/** Starts what it needs, Postgres and Redis included, and ends it. Says on standard error how far it is. */
export async function measureStreaming(options: StreamingOptions = {}): Promise<StreamingFigures> {
  const { quick = false, soakSeconds = 0 } = options
  const given = options.rounds
  const usual = quick ? ROUNDS.quick : ROUNDS.usual
  const rounds: Rounds = given ? { latency: given, processor: given, others: given } : usual
  const stack = await step('starting', () => startStack(CLIENTS))
  try {
    await step('warming up', () => warmUp(stack))
    const figures = {
      latency: await step('time to first token', () =>
        measureLatency(stack, quick ? QUICK_LOADS : LOADS, rounds.latency),
      ),
      processor: await step('processor time', () => measureProcessor(stack, rounds.processor)),
      allocations: await step('allocations', () => measureAllocations(stack, rounds.others)),
      openStreams: await step('open streams', () => measureOpenStreams(stack, rounds.others)),
      resume: await step('resume', () => measureResume(stack, rounds.others)),
      readers: await step('readers', () => measureReaders(stack, rounds.others)),
      soak: soakSeconds > 0 ? await step('soak', () => soak(stack, soakSeconds)) : undefined,
    }
    const complaints = stack.subjects.flatMap(({ name, process }) =>
      (process?.complaints() ?? []).map((words) => `${name}: ${words}`),
    )
    return { rounds, ...figures, aims: judge(figures), leftOut: stack.leftOut, complaints }
  } finally {
    await stack.close()
  }
}

/** Code is compiled, connections stand, and every conversation has its history. */
export async function warmUp({ subjects, conversations }: Stack): Promise<void> {
  for (const subject of subjects) {
    // The core has made the history that the cloud's conversations have.
    const some = subject.name.startsWith('cloud') ? conversations.slice(0, HISTORY.clients) : conversations
    for (let from = 0; from < some.length; from += HISTORY.clients)
      await underLoad(subject, some.slice(from), HISTORY)
  }
}

async function step<Result>(name: string, work: () => Promise<Result>): Promise<Result> {
  const startedAt = performance.now()
  const result = await work()
  process.stderr.write(`streaming: ${name}, ${Math.round((performance.now() - startedAt) / 1_000)} s\n`)
  return result
}
