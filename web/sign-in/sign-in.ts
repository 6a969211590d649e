/**
 * Being signed in at an OIDC issuer, in this tab. Tokens live in sessionStorage: a reload must not lose them, and they
 * must not outlive the tab, nor be there for every tab and everybody who opens this browser later, as in localStorage.
 */
import type { OidcSignIn } from '../../lambdas/protocol/page-settings.ts'
import { ApiError, plainFailure } from '../failure.ts'
import type { Identity } from '../identity.ts'
import { forget, onOtherTab, read, seal, write } from '../storage.ts'
import { type Signal, signal } from '../store.ts'
import { type Answer, keepAttempt } from './answer.ts'
import { newAttempt, openIssuer } from './issuer.ts'
import { SignInError } from './problem.ts'
import { hasEnded, isDue, type Person, type Tokens } from './tokens.ts'

const TOKENS = 'sign-in.tokens'
/** In this tab: somebody signed out, and does not want to be signed in again just because the issuer still could. */
const OUT = 'sign-in.out'
/** For all tabs, when somebody last signed out. */
const OUT_AT = 'sign-in.out-at'
/** Whose drafts and unsettled turns the browser keeps. */
const OWNER = 'sign-in.owner'

/** The API refuses a token that is no older: another one would be refused too, so that none is fetched for ever. */
const NEW_MS = 60_000

export interface SignIn extends Identity {
  /**
   * Why a person has to sign in again before anything else can be asked of the server; null: they need not.
   * `rejected`: the issuer knows them and the API does not accept them.
   */
  readonly asking: Signal<'ended' | 'rejected' | null>
  /** Who is signed in, once `enter` has said `in`. */
  person(): Person | null
  /**
   * Comes in with what this tab has, or with the issuer's answer; otherwise leaves for the issuer. `out`: somebody
   * signed out in this tab and has to say that they want to come in. Throws SignInError.
   */
  enter(answer: Answer | null): Promise<'in' | 'out' | 'leaving'>
  /** Goes to the issuer and comes back to what is open now. Throws SignInError where it cannot be reached. */
  leave(): Promise<'leaving'>
  /** Goes on without: what waits for a token fails, and the next request asks again. */
  later(): void
  /** Ends it here and in the browser's other tabs, removes what was kept, and has the issuer end it too. */
  signOut(): Promise<void>
}

export function openSignIn(settings: OidcSignIn): SignIn {
  const home = `${location.origin}/`
  const issuer = openIssuer(settings, home)
  const asking = signal<'ended' | 'rejected' | null>(null)
  let tokens = read<Tokens>(TOKENS, sessionStorage)
  let renewing: Promise<string> | null = null
  let question: { promise: Promise<never>; putOff(): void } | null = null
  let isLeaving = false

  function keep(next: Tokens | null): void {
    tokens = next
    write(TOKENS, next, sessionStorage)
  }

  /** Signing in leads away from here, so that there is no answer but that it was put off. */
  function ask(why: 'ended' | 'rejected'): Promise<never> {
    if (question === null) {
      let putOff = (): void => undefined
      const promise = new Promise<never>((_, reject) => {
        putOff = () => reject(new ApiError(401, plainFailure('unauthenticated')))
      })
      // Nobody may be waiting for it.
      promise.catch(() => undefined)
      question = { promise, putOff }
      asking.set(why)
    }
    return question.promise
  }

  /** Throws SignInError; `stale` where only a person can go on. */
  async function renew(old: Tokens): Promise<string> {
    if (old.refreshToken === null) throw new SignInError('stale')
    // Somebody may sign out meanwhile.
    const isKept = (): boolean => tokens?.refreshToken === old.refreshToken
    try {
      const renewed = await issuer.renew(old)
      if (isKept()) keep(renewed)
      return renewed.bearer
    } catch (error) {
      if (!(error instanceof SignInError) || error.problem !== 'unreachable') {
        if (isKept()) keep({ ...old, refreshToken: null, endsAt: 0 })
        throw new SignInError('stale')
      }
      if (!hasEnded(old)) return old.bearer
      throw error
    }
  }

  function renewed(old: Tokens): Promise<string> {
    renewing ??= renew(old).finally(() => {
      renewing = null
    })
    return renewing
  }

  /** Another one's drafts are nobody's to read. */
  function own(person: Person): void {
    if (read<string>(OWNER) === person.id) return
    forget()
    write(OWNER, person.id)
  }

  const leaveFor = (address: string): 'leaving' => {
    isLeaving = true
    // The page that is left would only lead here again: it has no place in the history.
    location.replace(address)
    return 'leaving'
  }

  async function leave(): Promise<'leaving'> {
    const attempt = newAttempt(location.hash)
    const address = await issuer.begin(attempt)
    keepAttempt(attempt)
    write(OUT, null, sessionStorage)
    return leaveFor(address)
  }

  onOtherTab(OUT_AT, () => {
    if (tokens === null || read(OUT_AT) === null) return
    keep(null)
    seal()
    write(OUT, true, sessionStorage)
    location.reload()
  })

  // Browsers keep a page that was left as it was, with all that it showed.
  addEventListener('pageshow', (event) => {
    if (event.persisted && read(TOKENS, sessionStorage) === null) location.reload()
  })

  return {
    asking,
    person: () => tokens?.person ?? null,

    async enter(answer) {
      if (answer?.attempt) {
        const found = await issuer.finish(answer.attempt, answer.parameters)
        own(found.person)
        keep(found)
        return 'in'
      }
      // Somebody who is signed in has come back to an old answer; it is not needed.
      if (answer !== null && tokens === null) throw new SignInError('stale')
      if (read(OUT, sessionStorage) !== null) return 'out'
      if (tokens === null) return leave()
      if (!isDue(tokens)) return 'in'
      const isOver = await renewed(tokens).then(
        () => false,
        // What cannot be renewed because nothing can be reached may be, when something can.
        (error: unknown) => !(error instanceof SignInError) || error.problem !== 'unreachable',
      )
      return isOver ? leave() : 'in'
    },

    leave,

    token() {
      if (isLeaving) return new Promise(() => undefined)
      if (question !== null) return question.promise
      if (tokens === null) return ask('ended')
      if (!isDue(tokens)) return Promise.resolve(tokens.bearer)
      return renewed(tokens).catch((error: unknown) => {
        if (error instanceof SignInError && error.problem === 'unreachable')
          throw new ApiError(0, plainFailure('unreachable'))
        return ask('ended')
      })
    },

    refuse(token) {
      if (token !== tokens?.bearer) return question !== null
      if (Date.now() - tokens.receivedAt < NEW_MS) {
        void ask('rejected')
        return true
      }
      keep({ ...tokens, endsAt: 0 })
      return tokens.refreshToken === null
    },

    later() {
      question?.putOff()
      question = null
      asking.set(null)
    },

    async signOut() {
      const ended = tokens
      isLeaving = true
      keep(null)
      forget()
      write(OUT_AT, Date.now())
      seal()
      write(OUT, true, sessionStorage)
      // Signed out here in any case; the issuer may not be there, or have no such page.
      const address = ended === null ? null : await issuer.end(ended).catch(() => null)
      leaveFor(address ?? home)
    },
  }
}
