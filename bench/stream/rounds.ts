/** Subjects take turns: whatever else the machine does hits all of them alike. */
import type { Stack, Subject } from './stack.ts'

/** Long enough for what a subject has left to be done: the batch of the queue that is saved after its answers. */
const SETTLE_MS = 300

/** In each round all of them, each round beginning with another one. */
export async function interleave<Item>(
  items: readonly Item[],
  rounds: number,
  measure: (item: Item, round: number) => Promise<void>,
): Promise<void> {
  for (let round = 0; round < rounds; round += 1)
    for (let place = 0; place < items.length; place += 1) {
      const item = items[(place + round) % items.length]
      if (item === undefined) continue
      await new Promise((settled) => setTimeout(settled, SETTLE_MS))
      await measure(item, round)
    }
}

export const subjectsOf = ({ subjects }: Stack, ...names: string[]): Subject[] =>
  subjects.filter(({ name }) => names.some((begin) => name.startsWith(begin)))
