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

/** Stores a value; null removes it. */
export function write(key: string, value: unknown, store: Storage = localStorage): void {
  try {
    if (value === null) store.removeItem(PREFIX + key)
    else store.setItem(PREFIX + key, JSON.stringify(value))
  } catch {
    // Full or forbidden: the value lives on in memory.
  }
}

/** Calls the listener when another tab of this browser has changed the value. */
export function onOtherTab(key: string, listener: () => void): void {
  addEventListener('storage', (event) => {
    if (event.key === PREFIX + key && event.storageArea === localStorage) listener()
  })
}
