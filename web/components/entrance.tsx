/** Stands in the page's place until somebody has come in. */
import { words } from '../language.ts'
import type { SignInError } from '../sign-in/problem.ts'
import { AlertIcon, Mark } from './icons.tsx'

interface Props {
  /** waiting: it goes on by itself. */
  why: 'waiting' | 'out' | SignInError
  onSignIn(): void
}

export function Entrance({ why, onSignIn }: Props) {
  if (why === 'waiting')
    return (
      <main class="entrance">
        <p class="entrance-waiting" role="status">
          <Mark />
          {words.signingIn}
        </p>
      </main>
    )
  return (
    <main class="entrance">
      <div class="entrance-card">
        <Mark />
        <h1>{why === 'out' ? words.signedOutTitle : words.signInFailedTitle}</h1>
        {why === 'out' ? <p>{words.signedOutText}</p> : <SignInFailure error={why} />}
        <button type="button" class="button primary" onClick={onSignIn}>
          {why === 'out' ? words.signIn : words.retry}
        </button>
      </div>
    </main>
  )
}

/** What went wrong, and below it what whoever looks after the deployment wants to know. */
export const SignInFailure = ({ error }: { error: SignInError }) => (
  <div class="failure" role="alert">
    <AlertIcon />
    <div class="failure-text">
      <p>{words.signInProblems[error.problem]}</p>
      {error.detail !== null && (
        <p class="failure-id">
          <code>{error.detail}</code>
        </p>
      )}
    </div>
  </div>
)
