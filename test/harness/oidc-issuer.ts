/**
 * A real OIDC issuer on loopback (oidc-provider), built as Cognito is: the issuer's own origin has nothing but the
 * discovery document, and the endpoints are on another one.
 */
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportJWK, generateKeyPair } from 'jose'
import { type Configuration, Provider } from 'oidc-provider'
import type { OidcSignIn } from '../../lambdas/protocol/page-settings.ts'

const CLIENT_ID = 'turnkeep-page'
const SCOPE = 'openid'
const RESOURCE = 'urn:turnkeep'
const HOUR_SECONDS = 3600

export interface OidcIssuer {
  /** For settings.json. */
  signIn: OidcSignIn
  /** For the functions. */
  environment: Record<string, string>
  /** Changes what it issues from now on. */
  rules: { idTokenSeconds: number; refreshTokens: boolean }
  /** Method and path of each request since the last time. */
  taken(): string[]
  close(): Promise<void>
}

/** Who may sign in, by name; any password will do. The stranger has an account, but in no company. */
const PEOPLE: Record<string, Record<string, string>> = {
  mina: { name: '김민아', company_id: 'acme', platform: 'web', role: 'user' },
  jun: { name: '박준', company_id: 'acme', platform: 'web', role: 'user' },
  stranger: { name: 'A stranger' },
}

/** `page` is the address that people are sent back to. */
export async function startOidcIssuer(page: string): Promise<OidcIssuer> {
  const rules = { idTokenSeconds: 3600, refreshTokens: true }
  const requests: string[] = []
  const endpoints = await listen()
  const discovery = await listen()
  const issuer = `${addressOf(discovery)}/pool`
  const provider = new Provider(issuer, await configuration(page, rules))
  provider.use(async (context, next) => {
    if (!context.path.startsWith('/interaction/')) return next()
    context.respond = false
    await serveSignIn(provider, context.req, context.res)
  })
  const callback = provider.callback()
  endpoints.on('request', (request, response) => {
    requests.push(`${request.method} ${request.url?.split('?')[0]}`)
    callback(request, response)
  })
  discovery.on('request', (async (request, response) => {
    requests.push(`${request.method} ${request.url}`)
    const found = await fetch(`${addressOf(endpoints)}/.well-known/openid-configuration`)
    response.setHeader('access-control-allow-origin', '*')
    response.setHeader('content-type', 'application/json')
    response.end(await found.text())
  }) satisfies RequestListener)
  return {
    signIn: {
      kind: 'oidc',
      issuer,
      clientId: CLIENT_ID,
      scope: SCOPE,
      token: 'id',
      origins: [addressOf(endpoints)],
    },
    environment: {
      AUTH_ISSUER: issuer,
      AUTH_AUDIENCE: CLIENT_ID,
      AUTH_JWKS_URL: `${addressOf(endpoints)}/jwks`,
      CLAIM_COMPANY_ID: 'company_id',
      CLAIM_PLATFORM: 'platform',
      CLAIM_ROLE: 'role',
    },
    rules,
    taken: () => requests.splice(0),
    close: async () => {
      await Promise.all([end(endpoints), end(discovery)])
    },
  }
}

async function configuration(page: string, rules: OidcIssuer['rules']): Promise<Configuration> {
  const { privateKey } = await generateKeyPair('RS256', { extractable: true })
  const claims = Object.keys(PEOPLE.mina ?? {})
  return {
    jwks: { keys: [{ ...(await exportJWK(privateKey)), alg: 'RS256', use: 'sig' }] },
    cookies: { keys: ['only for tests'] },
    clients: [
      {
        client_id: CLIENT_ID,
        token_endpoint_auth_method: 'none',
        grant_types: ['authorization_code', 'refresh_token'],
        redirect_uris: [`${page}/`],
        post_logout_redirect_uris: [`${page}/`],
      },
    ],
    claims: { openid: ['sub', 'jti', ...claims] },
    conformIdTokenClaims: false, // the claims stand in the ID token
    // With an id of its own, as real issuers' have: two of one second would be the same token otherwise.
    findAccount: (_, id) => ({
      accountId: id,
      claims: async () => ({ sub: id, jti: randomUUID(), ...PEOPLE[id] }),
    }),
    // Nobody is asked whether the page may know who they are.
    loadExistingGrant: async ({ oidc }) => {
      const { Grant } = oidc.provider
      const grant = new Grant({
        ...(oidc.session?.accountId && { accountId: oidc.session.accountId }),
        ...(oidc.client && { clientId: oidc.client.clientId }),
      })
      grant.addOIDCScope(SCOPE)
      grant.addResourceScope(RESOURCE, SCOPE)
      await grant.save()
      return grant
    },
    issueRefreshToken: async () => rules.refreshTokens,
    interactions: { url: (_, { uid }) => `/interaction/${uid}` },
    ttl: {
      IdToken: () => rules.idTokenSeconds,
      AccessToken: HOUR_SECONDS,
      Grant: HOUR_SECONDS,
      Interaction: HOUR_SECONDS,
      RefreshToken: HOUR_SECONDS,
      Session: HOUR_SECONDS,
    },
    clientBasedCORS: (_, origin) => origin === page,
    extraTokenClaims: (_, token) => ('accountId' in token ? PEOPLE[String(token.accountId)] : undefined),
    features: {
      devInteractions: { enabled: false },
      revocation: { enabled: true, allowedPolicy: async () => true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => RESOURCE,
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({ scope: SCOPE, audience: CLIENT_ID, accessTokenFormat: 'jwt' }),
      },
      rpInitiatedLogout: {
        enabled: true,
        logoutSource: (context, form) => {
          context.body = `${form}<button form="op.logoutForm" name="logout" value="yes">Sign out here</button>`
        },
      },
    },
  }
}

/** The issuer's own page: a name, and whether one wants to. */
async function serveSignIn(
  provider: Provider,
  request: IncomingMessage,
  response: Parameters<RequestListener>[1],
): Promise<void> {
  if (request.method === 'GET') {
    response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' })
    response.end(
      `<!doctype html><title>Issuer</title><link rel="icon" href="data:,"><form method="post">
      <input name="name" aria-label="Name"> <button name="do" value="sign-in">Sign in here</button>
      <button name="do" value="cancel">Cancel here</button></form>`,
    )
    return
  }
  let body = ''
  for await (const chunk of request) body += chunk
  const form = new URLSearchParams(body)
  const result =
    form.get('do') === 'cancel'
      ? { error: 'access_denied', error_description: 'cancelled' }
      : { login: { accountId: form.get('name') ?? '' } }
  await provider.interactionFinished(request, response, result)
}

async function listen(): Promise<Server> {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return server
}

const addressOf = (server: Server): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}`

async function end(server: Server): Promise<void> {
  server.close()
  server.closeAllConnections()
  await once(server, 'close')
}
