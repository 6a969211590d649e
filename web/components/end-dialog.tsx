/** Asks before a conversation is ended, since that is for good. */
import { useEffect, useRef, useState } from 'preact/hooks'
import { type Failure, failureOf } from '../failure.ts'
import { words } from '../language.ts'
import { FailureNote } from './failure-note.tsx'

interface Props {
  onEnd(): Promise<void>
  onClose(): void
}

export function EndDialog({ onEnd, onClose }: Props) {
  const dialog = useRef<HTMLDialogElement>(null)
  const [isEnding, setIsEnding] = useState(false)
  const [failure, setFailure] = useState<Failure | null>(null)
  useEffect(() => dialog.current?.showModal(), [])

  async function end(): Promise<void> {
    if (isEnding) return
    setIsEnding(true)
    setFailure(null)
    try {
      await onEnd()
      dialog.current?.close()
    } catch (error) {
      setFailure(failureOf(error))
      setIsEnding(false)
    }
  }

  return (
    <dialog
      ref={dialog}
      class="dialog"
      aria-labelledby="end-title"
      aria-describedby="end-text"
      onClose={onClose}
    >
      <h2 id="end-title">{words.endTitle}</h2>
      <p id="end-text">{words.endText}</p>
      {failure !== null && <FailureNote failure={failure} lead={words.endFailed} />}
      <div class="dialog-actions">
        <button type="button" class="button" onClick={() => dialog.current?.close()}>
          {words.cancel}
        </button>
        <button type="button" class="button danger" aria-disabled={isEnding} onClick={end}>
          {words.end}
        </button>
      </div>
    </dialog>
  )
}
