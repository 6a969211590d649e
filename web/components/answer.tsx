/** An answer: saved, or still arriving. */
import { useState } from 'preact/hooks'
import type { Message } from '../../lambdas/protocol.ts'
import { type Failure, plainFailure } from '../failure.ts'
import { words } from '../language.ts'
import type { Turn } from '../turn.ts'
import { CopyButton } from './copy-button.tsx'
import { FailureNote } from './failure-note.tsx'
import { MarkdownView } from './markdown-view.tsx'
import { Rating } from './rating.tsx'
import { Sources } from './sources.tsx'

interface SavedProps {
  message: Message
  isLast: boolean
  /** Why it was interrupted, where that is known. */
  interruption: Failure | undefined
  /** Absent where the question cannot be asked again. */
  onRetry: (() => void) | undefined
  onRate(score: number): Promise<void>
}

export function SavedAnswer({ message, isLast, interruption, onRetry, onRate }: SavedProps) {
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
          onRetry={onRetry}
        />
      )}
      {content !== '' && (
        <div class="answer-actions">
          <CopyButton text={content} label={words.copyAnswer} />
          <Rating score={message.satisfactionScore} onRate={onRate} onFailure={setRateFailure} />
        </div>
      )}
      {rateFailure !== null && <FailureNote failure={rateFailure} lead={words.rateFailed} />}
    </article>
  )
}

const statusOf = (turn: Turn): string => {
  if (turn.phase === 'settling') return words.settling
  return turn.status ?? words.sending
}

export function GrowingAnswer({ turn }: { turn: Turn }) {
  const hasText = turn.content !== ''
  const isStreaming = turn.phase === 'streaming'
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
