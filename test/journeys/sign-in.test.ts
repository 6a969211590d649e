/** Signing in at a real OIDC issuer, in a real browser, on the real local process; only the model is scripted. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Browser, BrowserContextOptions, Page } from 'playwright-core'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import type { OidcSignIn } from '../../lambdas/protocol/page-settings.ts'
import type { Script } from '../../local/model/scripted-model.ts'
import { buildPage } from '../../web/build.ts'
import {
  answers,
  ask,
  button,
  chromiumPath,
  completed,
  composer,
  ENGLISH,
  KOREAN,
  launchChromium,
  newVisit,
  questions,
  shown,
  type Visit,
} from '../harness/browser.ts'
import { type OidcIssuer, startOidcIssuer } from '../harness/oidc-issuer.ts'
import { startTurnkeep, type Turnkeep } from '../harness/turnkeep.ts'

/** Above the minute for which a token counts as new. */
const OLDER_MS = 61_000

let pageDir: string
let issuer: OidcIssuer
let turnkeep: Turnkeep
let address: string
let browser: Browser
/** What the model says to a question; to any other it says "ok". */
const scripts = new Map<string, Script>()

beforeAll(async () => {
  if (chromiumPath === undefined) return
  pageDir = await mkdtemp(join(tmpdir(), 'turnkeep-sign-in-'))
  await buildPage(pageDir)
  turnkeep = await startTurnkeep({
    on: 'pglite',
    pageDir,
    scriptedModel: {
      tokenDelayMs: 5,
      respond: ({ messages }) => scripts.get(messages.at(-1)?.content ?? '') ?? { content: 'ok' },
    },
    environment: async (cloud) => {
      issuer = await startOidcIssuer(cloud.address)
      return issuer.environment
    },
  })
  address = turnkeep.address
  browser = await launchChromium()
})

afterAll(async () => {
  if (chromiumPath === undefined) return
  await browser?.close()
  await turnkeep?.close()
  await issuer?.close()
  await rm(pageDir, { recursive: true, force: true })
})

beforeEach(async (context) => {
  context.skip(chromiumPath === undefined, 'Chromium is missing: set CHROMIUM_PATH to run these')
  scripts.clear()
  Object.assign(issuer.rules, { idTokenSeconds: 3600, refreshTokens: true })
  await configure({})
  issuer.taken()
})

const configure = (changes: Partial<OidcSignIn>): Promise<void> =>
  writeFile(join(pageDir, 'settings.json'), JSON.stringify({ signIn: { ...issuer.signIn, ...changes } }))

const visit = async (options: BrowserContextOptions = KOREAN, at = '/'): Promise<Visit> => {
  const visited = await newVisit(browser, options)
  await visited.page.goto(address + at)
  return visited
}

/** On the issuer's page. */
async function signInAs(page: Page, name: string): Promise<void> {
  await page.getByLabel('Name').fill(name)
  await button(page, 'Sign in here').click()
}

async function visitAs(name: string, options?: BrowserContextOptions): Promise<Visit> {
  const visited = await visit(options)
  await signInAs(visited.page, name)
  await composer(visited.page).waitFor()
  return visited
}

const dialog = (page: Page) => page.getByRole('dialog')
const tokenRequests = () => issuer.taken().filter((request) => request === 'POST /token').length
const keptIn = (page: Page, store: 'localStorage' | 'sessionStorage'): Promise<string> =>
  page.evaluate(`JSON.stringify(${store})`)
/** Waits until the token that the tab has is over, by its own word. */
const untilEnded = (page: Page): Promise<void> =>
  expect
    .poll(() => page.evaluate(`JSON.parse(sessionStorage['turnkeep.sign-in.tokens']).endsAt < Date.now()`), {
      timeout: 15_000,
    })
    .toBe(true)
const wordsOf = (count: number): string[] => Array.from({ length: count }, (_, index) => `word${index} `)

test('somebody signs in, asks, and is still signed in after a reload', async () => {
  scripts.set('배송은 얼마나 걸리나요?', { content: '이틀 걸립니다.' })
  const { page, problems } = await visitAs('mina')
  expect(page.url()).toBe(`${address}/`)
  await page.getByText('김민아').waitFor()
  await ask(page, '배송은 얼마나 걸리나요?')
  await completed(page).waitFor()
  expect(await shown(answers(page))).toEqual(['이틀 걸립니다.'])
  const sessionId = page.url().split('#/s/')[1]
  await turnkeep.drained()
  expect(await turnkeep.rows(`select user_id from chat_sessions where id = '${sessionId}'`)).toEqual([
    { user_id: 'mina' },
  ])

  issuer.taken()
  await page.reload()
  await completed(page).waitFor()
  expect(await shown(questions(page))).toEqual(['배송은 얼마나 걸리나요?'])
  expect(issuer.taken()).toEqual([])
  expect(await keptIn(page, 'sessionStorage')).toContain('eyJ')
  expect(await keptIn(page, 'localStorage')).not.toContain('eyJ')
  expect(problems).toEqual([])
})

test('whoever opens the address of a conversation sees it after signing in', async () => {
  const { page } = await visitAs('mina')
  await ask(page, 'remember me')
  await completed(page).waitFor()
  const conversation = new URL(page.url()).hash

  const { page: other, problems } = await visit(ENGLISH, `/${conversation}`)
  await signInAs(other, 'mina')
  await completed(other).waitFor()
  expect(other.url()).toBe(`${address}/${conversation}`)
  expect(await shown(questions(other))).toEqual(['remember me'])
  expect(problems).toEqual([])
})

test('what another one left in the browser is neither shown nor kept', async () => {
  const { page } = await visitAs('mina')
  await composer(page).fill('only mine')
  const other = await page.context().newPage()
  await page.context().clearCookies()
  await other.goto(address)
  await signInAs(other, 'jun')
  await other.getByText('박준').waitFor()
  expect(await composer(other).inputValue()).toBe('')
  expect(await keptIn(other, 'localStorage')).not.toContain('only mine')
})

test('a token that ends is renewed unseen', async () => {
  issuer.rules.idTokenSeconds = 2
  const { page, problems } = await visitAs('mina')
  let loads = 0
  page.on('load', () => {
    loads += 1
  })
  for (const [index, question] of ['one', 'two', 'three'].entries()) {
    issuer.taken()
    await untilEnded(page)
    await ask(page, question)
    await completed(page).nth(index).waitFor()
    expect(tokenRequests()).toBeGreaterThan(0)
  }
  expect(loads).toBe(0)
  expect(problems).toEqual([])
})

test('a token that the server refuses is renewed once, and every request repeated', async () => {
  const { page } = await visitAs('mina')
  await ask(page, 'still there?')
  await completed(page).waitFor()
  const refused = await page.evaluate(`JSON.parse(sessionStorage['turnkeep.sign-in.tokens']).bearer`)
  let refusals = 0
  await page.route('**/api/**', (route) => {
    if (route.request().headers().authorization !== `Bearer ${refused}`) return route.continue()
    refusals += 1
    const error = { code: 'unauthenticated', message: 'no', requestId: 'none' }
    return route.fulfill({ status: 401, json: { error } })
  })
  await page.clock.install()
  await page.clock.fastForward(OLDER_MS)
  issuer.taken()
  await page.reload()
  await completed(page).waitFor()
  await ask(page, 'and now?')
  await completed(page).nth(1).waitFor()
  expect(refusals).toBeGreaterThan(1)
  expect(tokenRequests()).toBe(1)
})

test('where nothing can be renewed one signs in again, and loses neither draft nor running answer', async () => {
  Object.assign(issuer.rules, { refreshTokens: false, idTokenSeconds: 5 })
  const words = wordsOf(150)
  scripts.set('tell me all', { content: words, tokenDelayMs: 60 })
  const { page } = await visitAs('mina')
  // The first question has to be on its way before the token ends.
  await ask(page, 'tell me all')
  await page.getByText('word3 ').waitFor()
  await composer(page).fill('아직 쓰는 중')
  await untilEnded(page)
  await page.context().setOffline(true)
  await page.getByText('답변에 다시 연결하는 중').waitFor()
  await page.context().setOffline(false)
  await dialog(page).getByText('로그인이 만료되었습니다').waitFor()
  const conversation = new URL(page.url()).hash
  issuer.rules.idTokenSeconds = 3600
  await dialog(page).getByRole('button', { name: '다시 로그인' }).click()

  // The issuer still knows who it is.
  await page.getByText('word5 ').waitFor()
  expect(page.url()).toBe(`${address}/${conversation}`)
  expect(await composer(page).inputValue()).toBe('아직 쓰는 중')
  await completed(page).waitFor()
  expect(await shown(answers(page))).toEqual([words.join('').trim()])
  expect(await shown(questions(page))).toEqual(['tell me all'])
})

test('a question that was asked when the sign-in had ended is answered after signing in again', async () => {
  Object.assign(issuer.rules, { refreshTokens: false, idTokenSeconds: 2 })
  const { page } = await visitAs('mina', ENGLISH)
  await untilEnded(page)
  issuer.rules.idTokenSeconds = 3600
  await ask(page, 'too late?')
  await button(page, 'Later').click()
  await page.getByText('You could not be signed in.').waitFor()
  await button(page, 'Try again').click()
  await button(page, 'Sign in again').click()
  await completed(page).waitFor()
  expect(await shown(questions(page))).toEqual(['too late?'])
})

test('an account that the service does not know is told so, and another one can be used', async () => {
  const { page } = await visitAs('stranger')
  await dialog(page).getByText('이 계정으로는 이용할 수 없습니다').waitFor()
  await button(page, '다른 계정 사용').click()
  await button(page, 'Sign out here').click()
  await page.getByText('로그아웃되었습니다').waitFor()
  await button(page, '로그인').click()
  await signInAs(page, 'mina')
  await ask(page, 'now?')
  await completed(page).waitFor()
})

test('signing out ends it at the issuer, in the other tabs, and leaves nothing in the browser', async () => {
  scripts.set('secret', { content: wordsOf(200), tokenDelayMs: 40 })
  const { page, problems } = await visitAs('mina')
  await ask(page, 'secret')
  await page.getByText('word1 ').waitFor()
  const other = await page.context().newPage()
  await other.goto(page.url())
  await other.getByText('word1 ').waitFor()
  await composer(other).fill('half a secret')

  issuer.taken()
  await button(page, '로그아웃').click()
  await button(page, 'Sign out here').click()
  await page.getByText('로그아웃되었습니다').waitFor()
  expect(issuer.taken()).toContain('POST /token/revocation')
  await other.getByText('로그아웃되었습니다').waitFor()
  for (const tab of [page, other]) {
    expect(await keptIn(tab, 'sessionStorage')).not.toContain('eyJ')
    expect(await keptIn(tab, 'localStorage')).not.toContain('secret')
  }
  await page.reload()
  await button(page, '로그인').click()
  await page.getByLabel('Name').waitFor()
  expect(problems).toEqual([])
})

test.each([
  [KOREAN, '로그인이 취소되었거나 거부되었습니다.', '다시 시도'],
  [ENGLISH, 'The sign-in was cancelled or refused.', 'Try again'],
] as const)('a cancelled sign-in is told, and can be tried again (%#)', async (language, text, retry) => {
  const { page, problems } = await visit(language)
  await button(page, 'Cancel here').click()
  await page.getByText(text).waitFor()
  expect(page.url()).toBe(`${address}/`)
  await button(page, retry).click()
  await signInAs(page, 'mina')
  await composer(page).waitFor()
  expect(problems).toEqual([])
})

test('an answer that this tab did not ask for is refused', async () => {
  const { page } = await visit(KOREAN, '/?code=stolen&state=somebody-elses')
  await page.getByText('만료되었거나 다른 곳에서 시작한 로그인입니다.').waitFor()
  expect(page.url()).toBe(`${address}/`)
  expect(issuer.taken()).not.toContain('POST /token')
  await button(page, '다시 시도').click()
  await signInAs(page, 'mina')
  await composer(page).waitFor()

  await page.goto(`${address}/?code=stolen&state=somebody-elses`)
  await page.getByText('김민아').waitFor()
  expect(page.url()).toBe(`${address}/`)
})

test('an ID token that was made for another attempt is refused', async () => {
  const { page } = await newVisit(browser, ENGLISH)
  await page.route(/\/auth\?/, (route) =>
    route.continue({
      url: route
        .request()
        .url()
        .replace(/nonce=[^&]+/, 'nonce=another'),
    }),
  )
  await page.goto(address)
  await signInAs(page, 'mina')
  await page.getByText('You could not be signed in').waitFor()
  expect(await keptIn(page, 'sessionStorage')).not.toContain('eyJ')
})

test.each([
  [KOREAN, '로그인 서비스에 연결할 수 없습니다.', '다시 시도'],
  [ENGLISH, 'The sign-in service cannot be reached.', 'Try again'],
] as const)('an issuer that is down is told, and can be tried again (%#)', async (language, text, retry) => {
  const { page } = await newVisit(browser, language)
  await page.route('**/.well-known/openid-configuration', (route) => route.abort('connectionrefused'))
  await page.goto(address)
  await page.getByText(text).waitFor()
  await page.unroute('**/.well-known/openid-configuration')
  await button(page, retry).click()
  await signInAs(page, 'mina')
  await composer(page).waitFor()
})

test('back leads away from the page, not into an old sign-in', async () => {
  const { page } = await newVisit(browser, KOREAN)
  await page.goto('data:text/html,before')
  await page.goto(address)
  await page.getByLabel('Name').waitFor()
  await page.goBack()
  expect(page.url()).toBe('data:text/html,before')

  await page.goto(address)
  await signInAs(page, 'mina')
  await composer(page).waitFor()
  await page.goBack()
  await page.goForward()
  await page.getByText('김민아').waitFor()
  expect(page.url()).toBe(`${address}/`)
})

test('access tokens are sent where the deployment says so', async () => {
  await configure({ token: 'access' })
  const { page, problems } = await visitAs('mina')
  await ask(page, 'by access token')
  await completed(page).waitFor()
  expect(problems).toEqual([])
})

test('where no sign-in is configured and no token can be made, a token is asked for', async () => {
  await rm(join(pageDir, 'settings.json'))
  const policy = (await fetch(address)).headers.get('content-security-policy')
  expect(policy).toContain("connect-src 'self';")
  const { page } = await newVisit(browser, ENGLISH)
  await page.route('**/dev/token', (route) => route.fulfill({ status: 404 }))
  await page.goto(address)
  await dialog(page).getByLabel('Access token').waitFor()
})
