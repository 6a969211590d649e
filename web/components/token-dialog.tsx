/** Asks for a token, where none can be made. It cannot be closed: without one there is nothing to show. */
import { useEffect, useRef, useState } from 'preact/hooks'
import type { GivenToken } from '../given-token.ts'
import { words } from '../language.ts'
import { useSignal } from '../store.ts'
import { AlertIcon, Mark } from './icons.tsx'

export function TokenDialog({ identity }: { identity: GivenToken }) {
  const asking = useSignal(identity.asking)
  return asking === 'no' ? null : <TokenForm wasRefused={asking === 'again'} onToken={identity.give} />
}

function TokenForm({ wasRefused, onToken }: { wasRefused: boolean; onToken(token: string): void }) {
  const dialog = useRef<HTMLDialogElement>(null)
  const [token, setToken] = useState('')
  useEffect(() => dialog.current?.showModal(), [])
  return (
    <dialog
      ref={dialog}
      class="dialog"
      aria-labelledby="token-title"
      onClose={() => dialog.current?.showModal()}
    >
      <form
        onSubmit={(event) => {
          event.preventDefault()
          // Copied headers come with their scheme.
          const bare = token.trim().replace(/^bearer\s+/i, '')
          if (bare !== '') onToken(bare)
        }}
      >
        <Mark />
        <h2 id="token-title">{words.tokenTitle}</h2>
        <p>{words.tokenText}</p>
        {wasRefused && (
          <div class="failure" role="alert">
            <AlertIcon />
            <p class="failure-text">{words.tokenAgain}</p>
          </div>
        )}
        <label>
          <span>{words.tokenLabel}</span>
          <textarea
            rows={4}
            value={token}
            spellcheck={false}
            autocomplete="off"
            onInput={(event) => setToken(event.currentTarget.value)}
          />
        </label>
        <div class="dialog-actions">
          <button type="submit" class="button primary">
            {words.tokenSubmit}
          </button>
        </div>
      </form>
    </dialog>
  )
}
