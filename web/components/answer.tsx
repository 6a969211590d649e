/** An answer: saved, or still arriving. */
import { useState } from 'preact/hooks'
import type { Message } from '../../lambdas/protocol/messages.ts'
import type { Turn } from '../conversation/turn.ts'
import { type Failure, plainFailure } from '../failure.ts'
import { words } from '../language.ts'
import { CopyButton } from './copy-button.tsx'
import { FailureNote } from './failure-note.tsx'
import { RetryIcon } from './icons.tsx'
import { MarkdownView } from './markdown-view.tsx'
import { Rating } from './rating.tsx'
import { SiblingSwitch } from './sibling-switch.tsx'
import { Sources } from './sources.tsx'

interface SavedProps {
  message: Message
  isLast: boolean
  /** Why it was interrupted, where that is known. */
  interruption: Failure | undefined
  /** All answers to the same question, oldest first. */
  siblings: Message[]
  /** Absent where the question cannot be answered again. */
  onAgain: (() => void) | undefined
  onChoose(answer: Message): void
  onRate(score: number): Promise<void>
}

export function SavedAnswer(props: SavedProps) {
  const { message, isLast, interruption, siblings, onAgain, onChoose, onRate } = props
  const [rateFailure, setRateFailure] = useState<Failure | null>(null)
  const { status, content } = message
  return (
    <article class="answer" data-message={message.messageId} data-status={status}>
      <h2 class="visually-hidden">{words.answer}</h2>
      <MarkdownView text={content} />
      <Sources sources={message.sources} />
      {status === 'stopped' && <p class="answer-note">{words.stopped}</p>}
      {status === 'interrupted' && !isLast && <p class="answer-note">{words.interrupted}</p>}
      {status === 'interrupted' && isLast && (
        <FailureNote
          failure={interruption ?? plainFailure('interrupted')}
          isNews={interruption !== undefined}
          onRetry={onAgain}
          retryLabel={words.answerAgain}
        />
      )}
      <div class="answer-actions">
        {siblings.length > 1 && <SiblingSwitch message={message} siblings={siblings} onChoose={onChoose} />}
        {content !== '' && (
          <>
            <CopyButton text={content} label={words.copyAnswer} />
            <Rating score={message.satisfactionScore} onRate={onRate} onFailure={setRateFailure} />
          </>
        )}
        {status !== 'interrupted' && onAgain !== undefined && (
          <button
            type="button"
            class="icon-button small"
            aria-label={words.answerAgain}
            title={words.answerAgain}
            onClick={onAgain}
          >
            <RetryIcon />
          </button>
        )}
      </div>
      {rateFailure !== null && <FailureNote failure={rateFailure} lead={words.rateFailed} />}
    </article>
  )
}

const statusOf = ({ phase, stopping, status }: Turn): string => {
  if (stopping) return words.stopping
  if (phase === 'reconnecting') return words.reconnecting
  if (phase === 'waiting') return words.answeringNow
  return status ?? words.sending
}

export function GrowingAnswer({ turn }: { turn: Turn }) {
  const hasText = turn.content !== ''
  const isStreaming = turn.phase === 'streaming' && !turn.stopping
  return (
    <article class="answer" data-status={turn.phase} aria-busy="true">
      <h2 class="visually-hidden">{words.answer}</h2>
      {hasText && <MarkdownView text={turn.content} isGrowing={isStreaming} />}
      {!(hasText && isStreaming) && (
        <p class="status" role="status">
          <span class="status-dots" aria-hidden="true">
            <i />
            <i />
            <i />
          </span>
          {statusOf(turn)}
        </p>
      )}
    </article>
  )
}
