/** What the issuer gave, and when it has to be renewed. */

export interface Tokens {
  /** What the API is sent. */
  bearer: string
  /** Tells the issuer later who signs out. */
  idToken: string
  refreshToken: string | null
  /** In milliseconds since 1970, by this machine's clock, which need not be right. */
  receivedAt: number
  /** Of the bearer; null: the issuer did not say, so that only a refusal tells. */
  endsAt: number | null
  person: Person
}

export interface Person {
  /** Unique over all issuers. */
  id: string
  /** To be shown; null: the issuer does not tell. */
  name: string | null
}

/** So long before its end, or for the last quarter of a short life, a token is renewed while it still works. */
const RENEW_BEFORE_MS = 60_000

export const hasEnded = ({ endsAt }: Tokens): boolean => endsAt !== null && Date.now() >= endsAt

/** True before the end where the issuer renews tokens, and at the end where it does not. */
export function isDue(tokens: Tokens): boolean {
  const { endsAt, receivedAt, refreshToken } = tokens
  if (endsAt === null || refreshToken === null) return hasEnded(tokens)
  return Date.now() >= endsAt - Math.min(RENEW_BEFORE_MS, (endsAt - receivedAt) / 4)
}
