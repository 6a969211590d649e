/** Results in the order of their sources, with so many of them under way at once, and no source read further ahead. */
export async function* inOrder<Source, Result>(
  sources: AsyncIterable<Source> | Iterable<Source>,
  atOnce: number,
  make: (source: Source) => Promise<Result>,
): AsyncGenerator<Result, void> {
  const underWay: Promise<Result>[] = []
  for await (const source of sources) {
    const result = make(source)
    result.catch(() => undefined) // It is told when its turn comes.
    underWay.push(result)
    if (underWay.length >= atOnce) yield (await underWay.shift()) as Result
  }
  for (const result of underWay) yield await result
}
