/** What several ask for at the same time is asked once: they share the answer, and its failure. */
export function together<Result>(): (name: string, ask: () => Promise<Result>) => Promise<Result> {
  const asking = new Map<string, Promise<Result>>()
  return (name, ask) => {
    const answer = asking.get(name) ?? ask().finally(() => asking.delete(name))
    asking.set(name, answer)
    return answer
  }
}
