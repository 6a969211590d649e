/** Items that come in lists, as lists for one call each. One that weighs more than `most` has a call of its own. */
export async function* inCalls<Item>(
  lists: AsyncIterable<readonly Item[]> | Iterable<readonly Item[]>,
  most: number,
  weightOf: (item: Item) => number,
): AsyncGenerator<Item[], void> {
  let call: Item[] = []
  let weight = 0
  for await (const items of lists)
    for (const item of items) {
      const more = weightOf(item)
      if (call.length > 0 && weight + more > most) {
        yield call
        call = []
        weight = 0
      }
      call.push(item)
      weight += more
    }
  if (call.length > 0) yield call
}
