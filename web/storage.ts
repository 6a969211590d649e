/**
 * What the browser keeps across reloads: drafts, and turns whose outcome is not known yet. Storage may be
 * full or forbidden; then the page works on without it.
 */
const PREFIX = 'turnkeep.'

/** The stored value, or null where there is none or it cannot be read. */
export function read<T>(key: string, store: Storage = localStorage): T | null {
  try {
    const text = store.getItem(PREFIX + key)
    return text === null ? null : (JSON.parse(text) as T)
  } catch {
    return null
  }
}

let isSealed = false

/** Nothing more is kept across tabs before the page is loaded again, whatever is still going on in it. */
export const seal = (): void => {
  isSealed = true
}

/** Stores a value; null removes it. */
export function write(key: string, value: unknown, store: Storage = localStorage): void {
  try {
    if (isSealed && store === localStorage) return
    if (value === null) store.removeItem(PREFIX + key)
    else store.setItem(PREFIX + key, JSON.stringify(value))
  } catch {
    // Full or forbidden: the value lives on in memory.
  }
}

/** Removes everything that the page has kept across tabs, but for what is named. */
export function forget(kept: readonly string[] = []): void {
  try {
    for (const key of Object.keys(localStorage))
      if (key.startsWith(PREFIX) && !kept.includes(key.slice(PREFIX.length))) localStorage.removeItem(key)
  } catch {
    // Forbidden: then there is nothing either.
  }
}

/** Calls the listener when another tab of this browser has changed the value. */
export function onOtherTab(key: string, listener: () => void): void {
  addEventListener('storage', (event) => {
    if (event.key === PREFIX + key && event.storageArea === localStorage) listener()
  })
}

/** The person stays, and nothing of what the page has shown does: it is loaded again, with no conversation open. */
export function startAnew(): void {
  seal()
  forget(['user'])
  history.replaceState(null, '', location.pathname)
  location.reload()
}
