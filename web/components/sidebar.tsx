/** The list of conversations. */
import type { ComponentChildren, TargetedKeyboardEvent } from 'preact'
import type { Session } from '../../lambdas/protocol/sessions.ts'
import { isEnded } from '../conversation/state.ts'
import type { Conversations } from '../conversations.ts'
import { words } from '../language.ts'
import { addressOf } from '../place.ts'
import { useSignal } from '../store.ts'
import { FailureNote } from './failure-note.tsx'
import { CloseIcon, ComposeIcon, Mark } from './icons.tsx'

type Group = keyof typeof words.groups

const DAY_MS = 86_400_000

function groupOf(session: Session, now: Date): Group {
  const today = new Date(now.getFullYear(), now.getMonth(), now.getDate()).getTime()
  const time = Date.parse(session.lastActiveAt)
  if (time >= today) return 'today'
  if (time >= today - DAY_MS) return 'yesterday'
  return time >= today - 7 * DAY_MS ? 'week' : 'older'
}

function grouped(sessions: Session[]): [Group, Session[]][] {
  const now = new Date()
  const groups = new Map<Group, Session[]>()
  for (const session of sessions) {
    const group = groupOf(session, now)
    groups.set(group, [...(groups.get(group) ?? []), session])
  }
  return [...groups]
}

/** Arrow keys move through the list, as in a menu; Tab and Enter work anyway. */
function moveFocus(event: TargetedKeyboardEvent<HTMLElement>): void {
  const links = [...event.currentTarget.querySelectorAll<HTMLElement>('a, .more')]
  const at = links.indexOf(document.activeElement as HTMLElement)
  const target = { ArrowDown: at + 1, ArrowUp: Math.max(at - 1, 0), Home: 0, End: links.length - 1 }[
    event.key
  ]
  if (target === undefined || at === -1) return
  event.preventDefault()
  links[target]?.focus()
}

const isMac = /mac|iphone|ipad/i.test(navigator.userAgent)
const shortcut = isMac ? '⌘K' : 'Ctrl+K'

interface Props {
  conversations: Conversations
  openId: string | null
  /** Closed drawers take part in nothing. */
  isHidden: boolean
  onNew(): void
  onOpened(): void
  onClose(): void
  /** Stands below the list. */
  children?: ComponentChildren
}

export function Sidebar(props: Props) {
  const { conversations, openId, isHidden, onNew, onOpened, onClose, children } = props
  const list = useSignal(conversations.list)
  return (
    <aside class="sidebar" id="sidebar" inert={isHidden} aria-label={words.conversations}>
      <div class="sidebar-head">
        <span class="brand">
          <Mark />
          {words.appName}
        </span>
        <button
          type="button"
          class="icon-button only-narrow"
          aria-label={words.closeList}
          title={words.closeList}
          onClick={onClose}
        >
          <CloseIcon />
        </button>
      </div>
      <button type="button" class="new" title={words.shortcutNew(shortcut)} onClick={onNew}>
        <ComposeIcon />
        {words.newConversation}
        <span class="keys" aria-hidden="true">
          {shortcut}
        </span>
      </button>
      <nav aria-label={words.conversations} onKeyDown={moveFocus}>
        {grouped(list.items).map(([group, sessions]) => (
          <section key={group}>
            <h2>{words.groups[group]}</h2>
            <ul>
              {sessions.map((session) => (
                <Entry
                  key={session.sessionId}
                  session={session}
                  isOpen={session.sessionId === openId}
                  isBusy={list.busy.has(session.sessionId)}
                  onOpened={onOpened}
                />
              ))}
            </ul>
          </section>
        ))}
        {list.items.length === 0 && !list.loading && list.failure === null && (
          <p class="sidebar-empty">{words.noConversations}</p>
        )}
        {list.failure !== null && (
          <FailureNote failure={list.failure} lead={words.listFailed} onRetry={conversations.refresh} />
        )}
        {list.nextCursor !== null && (
          <button type="button" class="more" aria-disabled={list.loading} onClick={conversations.more}>
            {words.showMore}
          </button>
        )}
      </nav>
      {children}
    </aside>
  )
}

interface EntryProps {
  session: Session
  isOpen: boolean
  isBusy: boolean
  onOpened(): void
}

const Entry = ({ session, isOpen, isBusy, onOpened }: EntryProps) => (
  <li>
    <a
      href={addressOf(session.sessionId)}
      aria-current={isOpen ? 'page' : undefined}
      title={session.title ?? undefined}
      onClick={onOpened}
    >
      <span class="entry-title">{session.title ?? words.untitled}</span>
      {isBusy && <span class="entry-busy" role="img" aria-label={words.answeringNow} />}
      {isEnded(session) && <span class="entry-ended">{words.ended}</span>}
    </a>
  </li>
)
