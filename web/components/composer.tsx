/** Where one writes. The text is kept until it has been sent, also across reloads. */

import type { TargetedKeyboardEvent, TargetedMouseEvent } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import type { Conversation } from '../conversation/conversation.ts'
import { canSend, runningTurn } from '../conversation/state.ts'
import { words } from '../language.ts'
import { useSignal } from '../store.ts'
import { SendIcon, StopIcon } from './icons.tsx'

/** On a phone the Enter key makes a new line, since its keyboard has no Shift + Enter. */
const hasKeyboard = (): boolean => matchMedia('(hover: hover), (pointer: fine)').matches

/** The key code of every key while an input method is composing; Safari has ended composing by then. */
const COMPOSING_KEY_CODE = 229

interface Props {
  conversation: Conversation
  onSend(text: string): void
}

export function Composer({ conversation, onSend }: Props) {
  const state = useSignal(conversation.state)
  const draft = useSignal(conversation.draft)
  const field = useRef<HTMLTextAreaElement>(null)
  const isReady = canSend(state) && draft.trim() !== ''
  const running = runningTurn(state)

  useEffect(() => {
    // On a phone it would open the keyboard over what one wants to read.
    if (hasKeyboard()) field.current?.focus({ preventScroll: true })
  }, [conversation])

  // The button that asked for an answer may be gone; Escape must still find the conversation.
  const isAnswering = running !== undefined
  useEffect(() => {
    if (isAnswering && document.activeElement === document.body && hasKeyboard())
      field.current?.focus({ preventScroll: true })
  }, [isAnswering])

  function submit(): void {
    if (!isReady) return
    onSend(draft)
    field.current?.focus({ preventScroll: true })
  }

  function stop(event: TargetedMouseEvent<HTMLButtonElement>): void {
    // The second half of a double click on the button that was here before.
    if (event.detail > 1) return
    conversation.stop()
    field.current?.focus({ preventScroll: true })
  }

  function onKeyDown(event: TargetedKeyboardEvent<HTMLTextAreaElement>): void {
    if (event.key !== 'Enter' || event.shiftKey || !hasKeyboard()) return
    if (event.isComposing || event.keyCode === COMPOSING_KEY_CODE) return
    event.preventDefault()
    submit()
  }

  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault()
        submit()
      }}
    >
      <div class="composer-box">
        {/* The copy below the field has the same text, so that the two grow together. */}
        <div class="composer-field">
          <div class="composer-copy" aria-hidden="true">
            {draft}{' '}
          </div>
          <textarea
            ref={field}
            rows={1}
            value={draft}
            placeholder={words.composerPlaceholder}
            aria-label={words.composerLabel}
            enterkeyhint="send"
            onInput={(event) => conversation.type(event.currentTarget.value)}
            onKeyDown={onKeyDown}
          />
        </div>
        {running !== undefined && running.phase !== 'waiting' ? (
          <button
            key="stop"
            type="button"
            class="send stop"
            aria-label={words.stop}
            title={words.stopHint}
            aria-disabled={running.stopping}
            onClick={stop}
          >
            <StopIcon />
          </button>
        ) : (
          <button
            key="send"
            type="submit"
            class="send"
            aria-label={words.send}
            title={words.send}
            aria-disabled={!isReady}
          >
            <SendIcon />
          </button>
        )}
      </div>
      <p class="composer-hint">{words.composerHint}</p>
    </form>
  )
}
