/** Kills the functions at one chosen moment of one chosen call, and lists the calls that there are to choose from. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { DrillCloud } from './drill-cloud.ts'
import { type Fate, type Moment, type Passage, passAll, type Service } from './fault-proxy.ts'

/** One call of an undisturbed run; `nth` counts those that are alike. */
export interface Step {
  service: Service
  operation: string
  nth: number
}

export const nameOf = ({ service, operation, nth }: Step): string => `${service} ${operation} ${nth}`

const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g

/** Tells the calls of one turn from those of the rounds before: by its question, later by the ids it was opened with. */
function createTracker(question: string): (passage: Passage) => boolean {
  const marks = new Set([question])
  return ({ operation, text }) => {
    const isOurs = [...marks].some((mark) => text.includes(mark))
    if (isOurs && operation === 'open_turn') for (const id of text.match(UUID) ?? []) marks.add(id)
    return isOurs
  }
}

/** Follows the calls of a turn and numbers them. */
export function track(cloud: DrillCloud, question: string) {
  const isOurs = createTracker(question)
  const counts = new Map<string, number>()
  const steps: Step[] = []
  let aim: (Step & { moment: Moment }) | undefined
  let refuses: (passage: Passage) => boolean = () => false
  const hit = Promise.withResolvers<void>()

  cloud.proxy.decide = (passage): Fate => {
    if (!isOurs(passage)) return 'pass'
    const { service, operation, moment } = passage
    const like = `${service} ${operation}`
    if (moment === 'before') {
      counts.set(like, (counts.get(like) ?? 0) + 1)
      steps.push({ service, operation, nth: counts.get(like) ?? 0 })
    }
    const nth = counts.get(like)
    if (aim?.service === service && aim.operation === operation && aim.nth === nth && aim.moment === moment) {
      aim = undefined
      cloud.functions().kill('SIGKILL')
      hit.resolve()
      return 'break'
    }
    return refuses(passage) ? { status: 500 } : 'pass'
  }
  return {
    steps,
    /** Counts from here on again, as a later stage of the turn does. */
    forget: () => {
      counts.clear()
      steps.length = 0
    },
    aimAt: (step: Step & { moment: Moment }) => {
      aim = step
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
