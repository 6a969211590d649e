/** Kills the functions at one chosen moment of one chosen call, and lists the moments that there are to choose from. */
import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { DrillCloud } from './drill-cloud.ts'
import { keyOf, nameOf } from './drill-model.ts'
import { type Fate, type Moment, type Passage, passAll, type Service } from './fault-proxy.ts'

/** One moment of one call; `nth` counts the calls that are alike. */
export interface Step {
  service: Service
  operation: string
  nth: number
  moment: Moment
}

export const describeStep = ({ service, operation, nth, moment }: Step): string =>
  `${service} ${operation} ${nth} ${moment}`

/** Before it dies a process does whatever it does without waiting for this step: that is what a kill has to show. */
const HOLD_MS = 400

/** Calls that name the ids of the turn that they open, in either phase. */
const OPENING = ['open_within_limits', 'open', 'claim']
const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g

/** Tells the calls of one turn from others: by the name of its question, later by the ids that it was opened with. */
export function createTracker(question: string): (passage: Passage) => boolean {
  const key = createHash('sha256').update(keyOf(question)).digest('hex')
  const marks = new Set([`«${nameOf(question)}»`, key])
  return ({ operation, text }) => {
    const isOurs = [...marks].some((mark) => text.includes(mark))
    if (isOurs && OPENING.includes(operation)) for (const id of text.match(UUID) ?? []) marks.add(id)
    return isOurs
  }
}

/** Follows the calls of a turn and numbers them. */
export function track(cloud: DrillCloud, question: string) {
  const isOurs = createTracker(question)
  const counts = new Map<string, number>()
  /** Two calls that are alike can be under way at once. */
  const numbers = new WeakMap<object, number>()
  const steps: Step[] = []
  const hit = Promise.withResolvers<void>()
  let aim: string | undefined
  let refuses: (passage: Passage) => boolean = () => false

  cloud.proxy.decide = async (passage): Promise<Fate> => {
    if (!isOurs(passage)) return 'pass'
    const { service, operation, moment, call } = passage
    const like = `${service} ${operation}`
    if (moment === 'before') {
      counts.set(like, (counts.get(like) ?? 0) + 1)
      numbers.set(call, counts.get(like) ?? 0)
    }
    const step = { service, operation, nth: numbers.get(call) ?? 0, moment }
    steps.push(step)
    if (aim !== describeStep(step)) return moment === 'before' && refuses(passage) ? { status: 500 } : 'pass'
    aim = undefined
    await sleep(HOLD_MS)
    cloud.functions().kill('SIGKILL')
    hit.resolve()
    return 'break'
  }
  return {
    steps,
    /** Counts from here on again, as a later stage of the turn does. */
    forget: () => {
      counts.clear()
      steps.length = 0
    },
    aimAt: (step: Step) => {
      aim = describeStep(step)
    },
    refuse: (which: (passage: Passage) => boolean) => {
      refuses = which
    },
    /** True: killed. False: the step did not come in this round, as a repeated append need not. */
    wasHit: (withinMs: number): Promise<boolean> =>
      Promise.race([hit.promise.then(() => true), sleep(withinMs).then(() => false)]),
    end: () => {
      cloud.proxy.decide = passAll
    },
  }
}

export type Track = ReturnType<typeof track>
