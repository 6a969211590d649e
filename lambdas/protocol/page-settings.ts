/** `/settings.json`, which the page asks for first. A deployment writes it; locally it is empty. */
export interface PageSettings {
  /** Absent: the local front door gives tokens, or a person pastes one. */
  signIn?: OidcSignIn
}

/** Where people sign in: an OIDC issuer at which the page is a public client. */
export interface OidcSignIn {
  kind: 'oidc'
  /** As in AUTH_ISSUER. */
  issuer: string
  clientId: string
  /** Separated by spaces; `openid` is one of them. */
  scope: string
  /** Which of its tokens the API is sent: the one that AUTH_AUDIENCE and the CLAIM_ variables speak of. */
  token: 'id' | 'access'
  /** Origins other than the issuer's that have endpoints of it. Cognito's are on the domain of its user pool. */
  origins?: string[]
}
