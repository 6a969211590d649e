/** Says in place what went wrong, with the number to ask about and what can be done. */
import type { ComponentChildren } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import type { Failure } from '../failure.ts'
import { locale, words } from '../language.ts'
import { AlertIcon, RetryIcon } from './icons.tsx'

const clock = new Intl.DateTimeFormat(locale, { timeStyle: 'medium' })

/** Whether the moment has come; draws again when it does. */
function useIsPast(time: number | null): boolean {
  const [isPast, setIsPast] = useState(time === null || time <= Date.now())
  useEffect(() => {
    const left = time === null ? 0 : time - Date.now()
    setIsPast(left <= 0)
    if (left <= 0) return
    const timer = setTimeout(() => setIsPast(true), left)
    return () => clearTimeout(timer)
  }, [time])
  return isPast
}

interface Props {
  failure: Failure
  /** What was being done, where the failure alone does not say. */
  lead?: string
  /** False where it was there before one looked. */
  isNews?: boolean
  onRetry?: (() => void) | undefined
  /** What trying again is called here. */
  retryLabel?: string
  /** Further buttons. */
  children?: ComponentChildren
}

export function FailureNote({
  failure,
  lead,
  isNews = true,
  onRetry,
  retryLabel = words.retry,
  children,
}: Props) {
  const mayRetry = useIsPast(failure.retryAt)
  const offersRetry = onRetry !== undefined && failure.retryable
  return (
    <div class="failure" role={isNews ? 'alert' : undefined}>
      <AlertIcon />
      <div class="failure-text">
        <p>
          {lead !== undefined && `${lead} `}
          {words.failures[failure.code] ?? words.failures.internal}
          {!mayRetry && failure.retryAt !== null && ` ${words.retryAt(clock.format(failure.retryAt))}`}
        </p>
        {failure.fields.length > 0 && (
          <ul class="failure-fields">
            {failure.fields.map(({ field, message }) => (
              <li key={field}>
                <code>{field}</code> {message}
              </li>
            ))}
          </ul>
        )}
        {failure.requestId !== null && (
          <p class="failure-id">
            {words.requestId} <code>{failure.requestId}</code>
          </p>
        )}
        {(offersRetry || children) && (
          <div class="failure-actions">
            {offersRetry && (
              <button type="button" class="button" disabled={!mayRetry} onClick={onRetry}>
                <RetryIcon />
                {retryLabel}
              </button>
            )}
            {children}
          </div>
        )}
      </div>
    </div>
  )
}
