/** State that components can watch: the smallest thing that does it, instead of a state library. */
import { useLayoutEffect, useReducer } from 'preact/hooks'

export interface Signal<T> {
  readonly value: T
  set(value: T): void
  update(change: (value: T) => T): void
  /** Calls the listener after each change; returns what ends it. */
  subscribe(listener: () => void): () => void
}

export function signal<T>(initial: T): Signal<T> {
  let value = initial
  const listeners = new Set<() => void>()
  const set = (next: T): void => {
    if (Object.is(value, next)) return
    value = next
    for (const listener of [...listeners]) listener()
  }
  return {
    get value() {
      return value
    },
    set,
    update: (change) => set(change(value)),
    subscribe(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
  }
}

/** The signal's value; the component is drawn again when it changes. */
export function useSignal<T>(source: Signal<T>): T {
  const [, redraw] = useReducer<number, undefined>((count) => count + 1, 0)
  const drawn = source.value
  useLayoutEffect(() => {
    // It may have changed between drawing and subscribing.
    if (!Object.is(drawn, source.value)) redraw(undefined)
    return source.subscribe(() => redraw(undefined))
  }, [source])
  return drawn
}
