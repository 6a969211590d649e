/** What an instance remembers of anything that its clients name. */
const MOST = 10_000

export type BoundedMap<Value> = Pick<Map<string, Value>, 'get' | 'has' | 'delete'> & {
  set(key: string, value: Value): void
}

/** Holds `most` values, and forgets what was put into it first; putting it again counts. */
export function boundedMap<Value>(most = MOST): BoundedMap<Value> {
  const values = new Map<string, Value>()
  return {
    get: (key) => values.get(key),
    has: (key) => values.has(key),
    delete: (key) => values.delete(key),
    set(key, value) {
      values.delete(key)
      values.set(key, value)
      const [oldest] = values.keys()
      if (values.size > most && oldest !== undefined) values.delete(oldest)
    },
  }
}
