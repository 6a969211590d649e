/** What is being written and was not sent, kept in the browser from the first letter on. */
import { read, write } from '../storage.ts'
import { type Signal, signal } from '../store.ts'

export interface Draft {
  readonly text: Signal<string>
  type(text: string): void
  /** From now on it is kept under another name. */
  moveTo(name: string): void
}

export function openDraft(initialName: string): Draft {
  let name = initialName
  const text = signal(read<string>(`draft.${name}`) ?? '')
  return {
    text,
    type(typed) {
      text.set(typed)
      write(`draft.${name}`, typed === '' ? null : typed)
    },
    moveTo(other) {
      name = other
    },
  }
}
