/** The messages of a conversation. It stays at its end while one is there, and leaves one alone otherwise. */
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import type { Message } from '../../lambdas/protocol/messages.ts'
import { siblingsOf } from '../conversation/branch.ts'
import type { Conversation } from '../conversation/conversation.ts'
import { canSend, visibleMessages } from '../conversation/state.ts'
import type { Turn } from '../conversation/turn.ts'
import type { Failure } from '../failure.ts'
import { words } from '../language.ts'
import { useSignal } from '../store.ts'
import { Announcer } from './announcer.tsx'
import { GrowingAnswer, SavedAnswer } from './answer.tsx'
import { FailureNote } from './failure-note.tsx'
import { DownIcon } from './icons.tsx'
import { MarkdownView } from './markdown-view.tsx'
import { QuestionView } from './question.tsx'

/** So near to the end counts as being there. */
const END_MARGIN_PX = 64

interface Props {
  conversation: Conversation
  /** Asks a question in a conversation of its own, where this one takes no more. */
  onAskElsewhere(turn: Turn): void
}

export function Thread({ conversation, onAskElsewhere }: Props) {
  const state = useSignal(conversation.state)
  const scroller = useRef<HTMLElement>(null)
  const content = useRef<HTMLDivElement>(null)
  const [isAtEnd, setIsAtEnd] = useState(true)
  const stays = useRef(true)

  function toEnd(): void {
    const { current } = scroller
    if (current !== null) current.scrollTop = current.scrollHeight
  }

  // Whatever grows (tokens, pictures of text, a wider window), the end stays in view.
  useLayoutEffect(() => {
    if (content.current === null || scroller.current === null) return
    const observer = new ResizeObserver(() => stays.current && toEnd())
    observer.observe(content.current)
    observer.observe(scroller.current)
    return () => observer.disconnect()
  }, [])

  // A question that was just sent is what one wants to see, wherever one was reading.
  const newest = state.turns.at(-1)?.key
  useEffect(() => {
    if (newest === undefined) return
    stays.current = true
    toEnd()
  }, [newest])

  // Only scrolling up leaves the end. What has grown since may put the end out of sight for a moment.
  const lastTop = useRef(0)
  function onScroll(): void {
    const { current } = scroller
    if (current === null) return
    const { scrollTop, scrollHeight, clientHeight } = current
    if (scrollHeight - scrollTop - clientHeight < END_MARGIN_PX) stays.current = true
    else if (scrollTop < lastTop.current) stays.current = false
    lastTop.current = scrollTop
    setIsAtEnd(stays.current)
  }

  const messages = visibleMessages(state)
  const tip = messages.at(-1)
  return (
    <div class="thread-frame">
      <section
        class="thread"
        ref={scroller}
        onScroll={onScroll}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: it is scrolled by keyboard
        tabIndex={0}
        aria-label={words.messages}
      >
        <div class="thread-content" ref={content}>
          {messages.map((message) =>
            message.role === 'assistant' ? (
              <SavedAnswer
                // The place, not the answer: the focus stays where one switches between siblings.
                key={`answer to ${message.parentMessageId}`}
                message={message}
                isLast={message === tip && state.turns.length === 0}
                interruption={state.interruptions[message.messageId]}
                siblings={siblingsOf(state.messages, message)}
                onAgain={
                  message === tip && canSend(state) ? () => conversation.answerAgain(message) : undefined
                }
                onChoose={conversation.choose}
                onRate={(score) => conversation.rate(message, score)}
              />
            ) : (
              message.role === 'user' && <QuestionView key={message.messageId} text={message.content} />
            ),
          )}
          {state.turns.map((turn) => (
            <TurnView
              key={turn.key}
              turn={turn}
              conversation={conversation}
              isEnded={state.ended}
              onAskElsewhere={onAskElsewhere}
            />
          ))}
        </div>
      </section>
      <LiveAnswer messages={messages} turns={state.turns} />
      {!isAtEnd && (
        <button
          type="button"
          class="to-end"
          aria-label={words.jumpToLatest}
          title={words.jumpToLatest}
          onClick={toEnd}
        >
          <DownIcon />
        </button>
      )}
    </div>
  )
}

interface TurnProps {
  turn: Turn
  conversation: Conversation
  isEnded: boolean
  onAskElsewhere(turn: Turn): void
}

function TurnView({ turn, conversation, isEnded, onAskElsewhere }: TurnProps) {
  return (
    <>
      <QuestionView text={turn.question.message} />
      {turn.failure === null ? (
        <GrowingAnswer turn={turn} />
      ) : (
        <FailedAnswer {...{ turn, failure: turn.failure, conversation, isEnded, onAskElsewhere }} />
      )}
    </>
  )
}

/** What came stays to be read. */
function FailedAnswer(props: TurnProps & { failure: Failure }) {
  const { turn, failure, conversation, isEnded, onAskElsewhere } = props
  const isSaved = turn.userMessageId !== null
  return (
    <article class="answer" data-status="failed">
      {turn.content !== '' && <MarkdownView text={turn.content} />}
      <FailureNote failure={failure} onRetry={isEnded ? undefined : () => conversation.retry(turn)}>
        {isEnded && (
          <button type="button" class="button" onClick={() => onAskElsewhere(turn)}>
            {words.askInNew}
          </button>
        )}
        {!isEnded && (!isSaved || turn.again !== null) && (
          <button type="button" class="button" onClick={() => conversation.takeBack(turn)}>
            {isSaved ? words.cancel : words.takeBack}
          </button>
        )}
      </FailureNote>
    </article>
  )
}

/** Announces the answer that is arriving, to its end; one that was there before is left in peace. */
function LiveAnswer({ messages, turns }: { messages: Message[]; turns: Turn[] }) {
  const followed = useRef<string | null>(null)
  const running = turns.find(({ phase, messageId }) => phase !== 'failed' && messageId !== null)
  if (running?.messageId != null) followed.current = running.messageId
  const id = followed.current
  if (id === null) return null
  const saved = messages.find((message) => message.messageId === id)
  return (
    <Announcer
      answerId={id}
      text={saved?.content ?? running?.content ?? ''}
      isComplete={saved !== undefined}
    />
  )
}
