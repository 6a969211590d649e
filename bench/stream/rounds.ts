/** Subjects take turns: whatever else the machine does hits all of them alike. */
import { shuffled } from '../figures.ts'
import type { Stack, Subject } from './stack.ts'

/** Long enough for what a subject has left to be done: the batch of the queue that is saved after its answers. */
const SETTLE_MS = 300

/** In each round all of them, in another order than in the one before. */
export async function interleave<Item>(
  items: readonly Item[],
  rounds: number,
  measure: (item: Item, round: number) => Promise<void>,
): Promise<void> {
  let before: readonly Item[] = []
  for (let round = 0; round < rounds; round += 1) {
    let order = shuffled(items)
    while (items.length > 1 && order[0] === before[0]) order = shuffled(items)
    for (const item of order) {
      await new Promise((settled) => setTimeout(settled, SETTLE_MS))
      await measure(item, round)
    }
    before = order
  }
}

export const subjectsOf = ({ subjects }: Stack, ...names: string[]): Subject[] =>
  subjects.filter(({ name }) => names.some((begin) => name.startsWith(begin)))
