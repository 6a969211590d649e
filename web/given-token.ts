/**
 * Where no sign-in is configured: locally the front door makes a token for anybody who asks; elsewhere that route
 * does not exist, and a person pastes a token.
 */
import { ApiError, errorFrom, plainFailure } from './failure.ts'
import { newId } from './id.ts'
import type { Identity } from './identity.ts'
import { read, write } from './storage.ts'
import { type Signal, signal } from './store.ts'

export interface GivenToken extends Identity {
  /** Whether a person must give a token, and whether their last one was refused. */
  readonly asking: Signal<'no' | 'yes' | 'again'>
  give(token: string): void
}

function localUserId(): string {
  const known = read<string>('user')
  if (known !== null) return known
  const made = `guest-${newId()}`
  write('user', made)
  return made
}

/** A token from the local front door, or null where there is no such route. */
async function localToken(): Promise<string | null> {
  const body = { companyId: 'demo', platform: 'web', userId: localUserId(), role: 'user' }
  let response: Response
  try {
    response = await fetch('/dev/token', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
  } catch {
    throw new ApiError(0, plainFailure('unreachable'))
  }
  if (response.status >= 500 || response.status === 429) throw await errorFrom(response)
  if (!response.ok) return null
  // A static host may answer any path with its page.
  const answer = (await response.json().catch(() => null)) as { token?: unknown } | null
  return typeof answer?.token === 'string' ? answer.token : null
}

export function openGivenToken(): GivenToken {
  const asking = signal<'no' | 'yes' | 'again'>('no')
  let current: Promise<string> | null = null
  let answer: ((token: string) => void) | null = null
  /** The token that is in use, to tell a late refusal of an older one. */
  let held: string | null = null
  let fromPerson = false

  const ask = (why: 'yes' | 'again'): Promise<string> =>
    new Promise((resolve) => {
      fromPerson = true
      answer = resolve
      asking.set(why)
    })

  async function find(): Promise<string> {
    const pasted = read<string>('token', sessionStorage)
    if (pasted !== null) fromPerson = true
    return pasted ?? (await localToken()) ?? ask('yes')
  }

  function hold(search: Promise<string>): Promise<string> {
    return search.then(
      (token) => {
        held = token
        return token
      },
      (error: unknown) => {
        current = null
        throw error
      },
    )
  }

  return {
    asking,
    token() {
      current ??= hold(find())
      return current
    },
    refuse(token) {
      if (token !== held) return fromPerson
      held = null
      write('token', null, sessionStorage)
      current = fromPerson ? hold(ask('again')) : null
      return fromPerson
    },
    give(token) {
      write('token', token, sessionStorage)
      asking.set('no')
      answer?.(token)
      answer = null
    },
  }
}
