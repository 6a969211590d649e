/** Says in the middle of things that one has to sign in again. It may be put off: there is something to read. */
import { useEffect, useRef, useState } from 'preact/hooks'
import { words } from '../language.ts'
import { SignInError } from '../sign-in/problem.ts'
import type { SignIn } from '../sign-in/sign-in.ts'
import { useSignal } from '../store.ts'
import { SignInFailure } from './entrance.tsx'

interface Props {
  signIn: SignIn
  onSignOut(): void
}

export function SignInDialog({ signIn, onSignOut }: Props) {
  const asking = useSignal(signIn.asking)
  return asking === null ? null : <Dialog {...{ why: asking, signIn, onSignOut }} />
}

function Dialog({ why, signIn, onSignOut }: Props & { why: 'ended' | 'rejected' }) {
  const dialog = useRef<HTMLDialogElement>(null)
  const [isLeaving, setIsLeaving] = useState(false)
  const [failure, setFailure] = useState<SignInError | null>(null)
  useEffect(() => dialog.current?.showModal(), [])

  async function leave(): Promise<void> {
    if (isLeaving) return
    setIsLeaving(true)
    setFailure(null)
    try {
      await signIn.leave()
    } catch (error) {
      setFailure(error instanceof SignInError ? error : new SignInError('failed'))
      setIsLeaving(false)
    }
  }

  const isRejected = why === 'rejected'
  return (
    <dialog
      ref={dialog}
      class="dialog"
      aria-labelledby="sign-in-title"
      aria-describedby="sign-in-text"
      onClose={signIn.later}
    >
      <h2 id="sign-in-title">{isRejected ? words.rejectedTitle : words.signInEndedTitle}</h2>
      <p id="sign-in-text">{isRejected ? words.rejectedText : words.signInEndedText}</p>
      {failure !== null && <SignInFailure error={failure} />}
      <div class="dialog-actions">
        {!isRejected && (
          <button type="button" class="button" onClick={() => dialog.current?.close()}>
            {words.later}
          </button>
        )}
        <button
          type="button"
          class={isRejected ? 'button' : 'button primary'}
          aria-disabled={isLeaving}
          onClick={leave}
        >
          {words.signInAgain}
        </button>
        {isRejected && (
          <button type="button" class="button primary" onClick={onSignOut}>
            {words.otherAccount}
          </button>
        )}
      </div>
    </dialog>
  )
}
