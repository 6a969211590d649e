/** Puts the parts of the page together, once it is known who uses it. */
import { render, type VNode } from 'preact'
import { createApi } from './api.ts'
import { Account } from './components/account.tsx'
import { App } from './components/app.tsx'
import { Entrance } from './components/entrance.tsx'
import { SignInDialog } from './components/sign-in-dialog.tsx'
import { TokenDialog } from './components/token-dialog.tsx'
import { createConversations } from './conversations.ts'
import { openGivenToken } from './given-token.ts'
import type { Identity } from './identity.ts'
import { locale } from './language.ts'
import { watchPlace } from './place.ts'
import { readSettings } from './settings.ts'
import { takeAnswer } from './sign-in/answer.ts'
import { SignInError } from './sign-in/problem.ts'
import { openSignIn, type SignIn } from './sign-in/sign-in.ts'

let answer = takeAnswer()
/** Absent before the settings are known, and where nobody signs in. */
let signIn: SignIn | undefined

const show = (view: VNode): void => render(view, document.body)

/** Shows the page, or goes where one signs in. Asked for by a person, it goes there whatever was before. */
async function enter(isAsked: boolean): Promise<void> {
  show(<Entrance why="waiting" onSignIn={again} />)
  try {
    const settings = await readSettings()
    if (settings.signIn === undefined) return showWithToken()
    signIn ??= openSignIn(settings.signIn)
    const taken = answer
    answer = null
    const way = isAsked && taken === null ? await signIn.leave() : await signIn.enter(taken)
    if (way === 'in') showSignedIn(signIn)
    if (way === 'out') show(<Entrance why="out" onSignIn={again} />)
  } catch (error) {
    const why = error instanceof SignInError ? error : new SignInError('failed', String(error))
    show(<Entrance why={why} onSignIn={again} />)
  }
}

const again = (): void => void enter(true)

function partsFor(identity: Identity) {
  const api = createApi(identity)
  return { api, conversations: createConversations(api, locale), place: watchPlace() }
}

function showWithToken(): void {
  const token = openGivenToken()
  show(
    <App {...partsFor(token)}>
      <TokenDialog identity={token} />
    </App>,
  )
}

function showSignedIn(current: SignIn): void {
  const leave = (): void => {
    show(<Entrance why="waiting" onSignIn={again} />)
    void current.signOut()
  }
  show(
    <App {...partsFor(current)} account={<Account name={current.person()?.name ?? null} onSignOut={leave} />}>
      <SignInDialog signIn={current} onSignOut={leave} />
    </App>,
  )
}

document.documentElement.lang = locale
void enter(false)
