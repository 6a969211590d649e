/** Who is signed in, and the way out. */
import { words } from '../language.ts'
import { LeaveIcon } from './icons.tsx'

interface Props {
  /** Null: the issuer does not tell. */
  name: string | null
  onSignOut(): void
}

export const Account = ({ name, onSignOut }: Props) => (
  <div class="account">
    <span class="account-name" title={name ?? undefined}>
      {name}
    </span>
    <button type="button" class="button quiet" onClick={onSignOut}>
      <LeaveIcon />
      {words.signOut}
    </button>
  </div>
)
