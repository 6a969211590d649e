/** The frame: the list beside the open conversation, or over it where the screen is narrow. */
import type { ComponentChildren } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import type { Api } from '../api.ts'
import type { Turn } from '../conversation/turn.ts'
import type { Conversations } from '../conversations.ts'
import { words } from '../language.ts'
import type { Place } from '../place.ts'
import { useSignal } from '../store.ts'
import { ConversationView } from './conversation-view.tsx'
import { ListIcon } from './icons.tsx'
import { Sidebar } from './sidebar.tsx'
import { YourDataButton, YourDataDialog } from './your-data.tsx'

/** Where the list becomes a drawer; the style sheet has the same number. */
const NARROW = '(max-width: 759px)'

function useMedia(query: string): boolean {
  const [matches, setMatches] = useState(() => matchMedia(query).matches)
  useEffect(() => {
    const media = matchMedia(query)
    const onChange = (): void => setMatches(media.matches)
    media.addEventListener('change', onChange)
    return () => media.removeEventListener('change', onChange)
  }, [query])
  return matches
}

interface Props {
  conversations: Conversations
  place: Place
  api: Api
  /** Who is signed in, below the list; absent where nobody signs in. */
  account?: ComponentChildren
  /** What may lie over everything. */
  children?: ComponentChildren
}

export function App({ api, conversations, place, account, children }: Props) {
  const openId = useSignal(place.open)
  const isNarrow = useMedia(NARROW)
  const [isDrawerOpen, setIsDrawerOpen] = useState(false)
  const [isDataOpen, setIsDataOpen] = useState(false)
  const opener = useRef<HTMLButtonElement>(null)
  const conversation = conversations.open(openId)

  useEffect(() => {
    void conversation.load()
  }, [conversation])

  useEffect(() => {
    void conversations.refresh()
  }, [conversations])

  useEffect(() => {
    const onVisible = (): void => {
      if (document.visibilityState !== 'visible') return
      void conversations.refresh()
      if (conversation.state.value.loading === 'ready') void conversation.load()
    }
    document.addEventListener('visibilitychange', onVisible)
    return () => document.removeEventListener('visibilitychange', onVisible)
  }, [conversations, conversation])

  const isDrawer = isNarrow && isDrawerOpen
  const closeDrawer = (): void => setIsDrawerOpen(false)

  // The focus goes into the drawer with the user, and back to where they came from.
  const wasDrawer = useRef(false)
  useEffect(() => {
    if (isDrawer) document.querySelector<HTMLElement>('.sidebar .new')?.focus()
    else if (wasDrawer.current && document.activeElement === document.body) opener.current?.focus()
    wasDrawer.current = isDrawer
  }, [isDrawer])

  function startNew(): void {
    place.go(null)
    closeDrawer()
    focusComposer()
  }

  function askElsewhere(turn: Turn): void {
    conversation.takeBack(turn)
    const next = conversations.open(null)
    next.type([next.draft.value, conversation.draft.value].filter((text) => text !== '').join('\n\n'))
    conversation.type('')
    place.go(null)
  }

  useEffect(() => {
    function onKeyDown(event: KeyboardEvent): void {
      // A dialog wants its answer first.
      if (document.querySelector('dialog[open]') !== null) return
      if (event.key.toLowerCase() === 'k' && (event.ctrlKey || event.metaKey) && !event.altKey) {
        event.preventDefault()
        startNew()
      }
      if (event.key === 'Escape') closeDrawer()
    }
    addEventListener('keydown', onKeyDown)
    return () => removeEventListener('keydown', onKeyDown)
  })

  return (
    <div class={isDrawer ? 'app drawer-open' : 'app'}>
      <button type="button" class="skip" onClick={skipToConversation}>
        {words.skip}
      </button>
      <Sidebar
        conversations={conversations}
        openId={openId}
        isHidden={isNarrow && !isDrawerOpen}
        onNew={startNew}
        onOpened={closeDrawer}
        onClose={closeDrawer}
      >
        <YourDataButton onOpen={() => setIsDataOpen(true)} />
        {account}
      </Sidebar>
      {isDrawer && (
        <button
          type="button"
          class="backdrop"
          tabIndex={-1}
          aria-label={words.closeList}
          onClick={closeDrawer}
        />
      )}
      <ConversationView
        key={conversation.sessionId}
        conversation={conversation}
        isCovered={isDrawer}
        onSent={() => place.go(conversation.sessionId)}
        onNew={startNew}
        onAskElsewhere={askElsewhere}
      >
        <button
          ref={opener}
          type="button"
          class="icon-button only-narrow"
          aria-label={words.openList}
          title={words.openList}
          aria-expanded={isDrawer}
          aria-controls="sidebar"
          onClick={() => setIsDrawerOpen(true)}
        >
          <ListIcon />
        </button>
      </ConversationView>
      {isDataOpen && <YourDataDialog api={api} onClose={() => setIsDataOpen(false)} />}
      {children}
    </div>
  )
}

const composer = (): HTMLElement | null => document.querySelector<HTMLElement>('.composer textarea')

const focusComposer = (): void => composer()?.focus({ preventScroll: true })

/** A button, not a link: the address's fragment names the open conversation. */
function skipToConversation(): void {
  const target = composer() ?? document.querySelector<HTMLElement>('.thread')
  target?.focus()
}
