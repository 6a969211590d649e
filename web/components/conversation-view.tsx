/** The open conversation: its head, its messages, and where one writes. */
import type { ComponentChildren, TargetedKeyboardEvent } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import type { Conversation } from '../conversation/conversation.ts'
import type { ConversationState } from '../conversation/state.ts'
import type { Turn } from '../conversation/turn.ts'
import { words } from '../language.ts'
import { useSignal } from '../store.ts'
import { Composer } from './composer.tsx'
import { EndDialog } from './end-dialog.tsx'
import { FailureNote } from './failure-note.tsx'
import { ArchiveIcon, ComposeIcon, Mark } from './icons.tsx'
import { Thread } from './thread.tsx'
import { Title } from './title.tsx'

interface Props {
  conversation: Conversation
  /** Something lies over it. */
  isCovered: boolean
  /** Stands before the title: what opens the list, where it is a drawer. */
  children: ComponentChildren
  onSent(): void
  onNew(): void
  onAskElsewhere(turn: Turn): void
}

const titleOf = ({ loading, session }: ConversationState): string => {
  if (session !== null) return session.title ?? words.untitled
  return loading === 'new' ? words.newConversation : ''
}

export function ConversationView(props: Props) {
  const { conversation, isCovered, children, onSent, onNew, onAskElsewhere } = props
  const state = useSignal(conversation.state)
  const [isAsking, setIsAsking] = useState(false)
  const { session, ended, loading } = state
  const title = titleOf(state)
  useEffect(() => {
    document.title = session === null || title === '' ? words.appName : `${title} · ${words.appName}`
  }, [session, title])

  function send(text: string): void {
    if (conversation.send(text)) onSent()
  }

  /** Escape ends the answer, unless it is meant for an input method or a dialog. */
  function onKeyDown(event: TargetedKeyboardEvent<HTMLElement>): void {
    if (event.key !== 'Escape' || event.isComposing || document.querySelector('dialog[open]') !== null) return
    conversation.stop()
  }

  return (
    <main class="conversation" data-state={loading} inert={isCovered} onKeyDown={onKeyDown}>
      <header class="head">
        {children}
        <Title title={title} onRename={session === null ? undefined : conversation.rename} />
        {session !== null && !ended && (
          <button
            type="button"
            class="button quiet end"
            aria-label={words.end}
            title={words.end}
            onClick={() => setIsAsking(true)}
          >
            <ArchiveIcon />
            <span>{words.endShort}</span>
          </button>
        )}
        {ended && <span class="badge">{words.ended}</span>}
        {loading !== 'new' && (
          <button
            type="button"
            class="icon-button only-narrow"
            aria-label={words.newConversation}
            title={words.newConversation}
            onClick={onNew}
          >
            <ComposeIcon />
          </button>
        )}
      </header>
      <Body {...{ conversation, state, onAskElsewhere }} />
      <div class="foot">
        {ended ? (
          <div class="ended">
            <p>{words.endedNotice}</p>
            <button type="button" class="button" onClick={onNew}>
              <ComposeIcon />
              {words.newConversation}
            </button>
          </div>
        ) : (
          loading !== 'failed' && <Composer conversation={conversation} onSend={send} />
        )}
      </div>
      {isAsking && <EndDialog onEnd={conversation.end} onClose={() => setIsAsking(false)} />}
    </main>
  )
}

interface BodyProps {
  conversation: Conversation
  state: ConversationState
  onAskElsewhere(turn: Turn): void
}

function Body({ conversation, state, onAskElsewhere }: BodyProps) {
  switch (state.loading) {
    case 'new':
      return (
        <div class="welcome">
          <Mark />
          <p class="welcome-title">{words.welcomeTitle}</p>
          <p>{words.welcomeText}</p>
        </div>
      )
    case 'loading':
      return (
        <div class="skeleton" role="status">
          <span class="visually-hidden">{words.loading}</span>
          <i />
          <i />
          <i />
        </div>
      )
    case 'failed':
      return (
        <div class="thread-content">
          {state.loadFailure !== null && (
            <FailureNote failure={state.loadFailure} lead={words.loadFailed} onRetry={conversation.load} />
          )}
        </div>
      )
    default:
      return <Thread conversation={conversation} onAskElsewhere={onAskElsewhere} />
  }
}
