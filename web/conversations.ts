/** The list of conversations, newest activity first, and the ones that have been opened. */
import type { Locale } from '../lambdas/protocol/chat.ts'
import type { Session } from '../lambdas/protocol/sessions.ts'
import type { Api } from './api.ts'
import { type Conversation, openConversation } from './conversation/conversation.ts'
import { type Failure, failureOf } from './failure.ts'
import { newId } from './id.ts'
import { type Signal, signal } from './store.ts'

export interface ListState {
  loading: boolean
  failure: Failure | null
  items: Session[]
  nextCursor: string | null
  /** Conversations in which an answer is being written. */
  busy: ReadonlySet<string>
}

export interface Conversations {
  readonly list: Signal<ListState>
  /** Reads the newest page again; what was read further down stays. */
  refresh(): Promise<void>
  more(): Promise<void>
  /** The conversation of an address; null: a new one, the same one until something is sent in it. */
  open(sessionId: string | null): Conversation
}

const byActivity = (one: Session, other: Session): number =>
  other.lastActiveAt.localeCompare(one.lastActiveAt)

function withSessions(known: Session[], found: Session[]): Session[] {
  const byId = new Map(known.map((session) => [session.sessionId, session]))
  for (const session of found) byId.set(session.sessionId, session)
  return [...byId.values()].sort(byActivity)
}

export function createConversations(api: Api, locale: Locale): Conversations {
  const list = signal<ListState>({
    loading: false,
    failure: null,
    items: [],
    nextCursor: null,
    busy: new Set(),
  })
  const opened = new Map<string, Conversation>()
  let fresh: Conversation | null = null

  function changed(session: Session, isBusy: boolean): void {
    list.update((now) => {
      const shown = now.items.find((item) => item.sessionId === session.sessionId)
      if (shown === session && now.busy.has(session.sessionId) === isBusy) return now
      const busy = new Set(now.busy)
      if (isBusy) busy.add(session.sessionId)
      else busy.delete(session.sessionId)
      return { ...now, busy, items: withSessions(now.items, [session]) }
    })
  }

  async function readPage(cursor: string | null): Promise<void> {
    if (list.value.loading) return
    list.update((now) => ({ ...now, loading: true, failure: null }))
    try {
      const page = await api.conversations(cursor)
      list.update((now) => ({
        ...now,
        loading: false,
        items: withSessions(now.items, page.items),
        // Reading the first page again must not forget how far down the list is known.
        nextCursor:
          cursor === null && now.items.length > page.items.length ? now.nextCursor : page.nextCursor,
      }))
    } catch (error) {
      list.update((now) => ({ ...now, loading: false, failure: failureOf(error) }))
    }
  }

  const open = (sessionId: string, isNew: boolean): Conversation => {
    const conversation = openConversation(sessionId, isNew, { api, locale, changed })
    opened.set(sessionId, conversation)
    return conversation
  }

  return {
    list,
    refresh: () => readPage(null),
    more: () => readPage(list.value.nextCursor),
    open(sessionId) {
      if (sessionId !== null) return opened.get(sessionId) ?? open(sessionId, false)
      if (fresh === null || fresh.state.value.loading !== 'new') fresh = open(newId(), true)
      return fresh
    },
  }
}
