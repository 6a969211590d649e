/** The page in a real browser, on the real local process; only the model is scripted. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { Browser, BrowserContextOptions, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import type { Message } from '../../lambdas/protocol/messages.ts'
import { COMPILE_CACHE } from '../../local/compile-cache.ts'
import { type Script, type ScriptedModel, startScriptedModel } from '../../local/model/scripted-model.ts'
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
  PHONE,
  questions,
  shown,
  type Visit,
} from '../harness/browser.ts'
import { clientOf } from '../harness/client.ts'
import { copyMigrated } from '../harness/migrated.ts'

const START = resolve(import.meta.dirname, '../../local/start.ts')
/** Of the functions: so soon after they were killed the answer is rescued. */
const LEASE_SECONDS = 2
/** A model that asks for more patience than this is not there. */
const FIRST_TOKEN_MS = 2_500
/** A lease, a start of the functions and the page's own pauses, on a slow machine. */
const RESCUED_MS = 20_000

/** Keeps every text that the last answer ever showed; runs in the page. */
const RECORD_ANSWER = `window.drawn = []
new MutationObserver(() => {
  const text = [...document.querySelectorAll('.answer .markdown')].at(-1)?.textContent
  if (text !== undefined && text !== drawn.at(-1)) drawn.push(text)
}).observe(document, { subtree: true, childList: true, characterData: true })`

let stateDir: string
let model: ScriptedModel
let turnkeep: ChildProcess
let address: string
let browser: Browser
/** What the model says to a question; to any other it says "ok". */
const scripts = new Map<string, Script>()

beforeAll(async () => {
  if (chromiumPath === undefined) return
  stateDir = await mkdtemp(join(tmpdir(), 'turnkeep-page-'))
  model = await startScriptedModel({
    tokenDelayMs: 5,
    respond: ({ messages }) => scripts.get(messages.at(-1)?.content ?? '') ?? { content: 'ok' },
  })
  await copyMigrated(stateDir)
  ;({ process: turnkeep, address } = await startTurnkeep())
  browser = await launchChromium()
})

afterAll(async () => {
  if (chromiumPath === undefined) return
  await browser?.close()
  if (turnkeep?.exitCode === null) {
    turnkeep.kill('SIGTERM')
    await once(turnkeep, 'close')
  }
  await model?.close()
  await rm(stateDir, { recursive: true, force: true })
})

beforeEach((context) => {
  context.skip(chromiumPath === undefined, 'Chromium is missing: set CHROMIUM_PATH to run these')
})

afterEach(() => scripts.clear())

async function startTurnkeep(): Promise<{ process: ChildProcess; address: string }> {
  const child = spawn(process.execPath, [START], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: process.env.PATH,
      ...COMPILE_CACHE,
      PORT: '0',
      TURNKEEP_DATA_DIR: stateDir,
      OPENAI_BASE_URL: model.url,
      OPENAI_API_KEY: 'scripted',
      LEASE_SECONDS: String(LEASE_SECONDS),
      MODEL_FIRST_TOKEN_MS: String(FIRST_TOKEN_MS),
    },
  })
  const ready = Promise.withResolvers<string>()
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
      const found = /ready at (http:\S+)/.exec(output)?.[1]
      if (found !== undefined) ready.resolve(found)
    })
  }
  child.once('close', (code) => ready.reject(new Error(`It ended (${code}):\n${output}`)))
  return { process: child, address: await ready.promise }
}

/** A browser that has never been here before; unless the test says otherwise nothing may go wrong in it. */
async function visit(options: BrowserContextOptions = KOREAN): Promise<Visit> {
  const visited = await newVisit(browser, options)
  await visited.page.addInitScript({ content: RECORD_ANSWER })
  await visited.page.goto(address)
  return visited
}

const conversations = (page: Page) => page.locator('.sidebar li')
const failure = (page: Page) => page.locator('.failure')
const reconnecting = (page: Page) => page.getByText('답변에 다시 연결하는 중')

/** As the server has them, of the conversation that is open. */
async function storedAnswers(page: Page): Promise<Message[]> {
  const userId: string = await page.evaluate(`JSON.parse(localStorage.getItem('turnkeep.user'))`)
  const user = clientOf(address, { companyId: 'demo', platform: 'web', userId, role: 'user' })
  const sessionId = page.url().split('#/s/')[1] ?? ''
  return (await user.messages(sessionId)).filter(({ role }) => role === 'assistant')
}

/** The words that a test's long answer is made of; in one paragraph, so that what is shown is what is stored. */
const wordsOf = (count: number): string[] => Array.from({ length: count }, (_, index) => `word${index} `)

/** What was shown only ever grew, and each of it was the beginning of this text: no token twice, none left out. */
async function expectOnlyGrowth(page: Page, text: string): Promise<void> {
  const drawn: string[] = await page.evaluate('drawn')
  expect(drawn.filter((one) => !text.startsWith(one.trim()))).toEqual([])
  expect(drawn.map(({ length }) => length)).toEqual(drawn.map(({ length }) => length).sort((a, b) => a - b))
}

/** SIGKILL, as a crash of Lambda is. */
async function killFunctions(): Promise<void> {
  process.kill(Number(await readFile(join(stateDir, 'functions.pid'), 'utf8')), 'SIGKILL')
}

test('an answer streams into the page', async () => {
  const words = Array.from({ length: 30 }, (_, index) => `word${index} `)
  scripts.set('배송은 얼마나 걸리나요?', { content: words, tokenDelayMs: 60 })
  const { page, problems } = await visit()
  await ask(page, '배송은 얼마나 걸리나요?')

  await page.getByText('word0').waitFor()
  const [early = ''] = await shown(answers(page))
  expect(words.join('').startsWith(early)).toBe(true)
  expect(early).not.toContain('word29')

  await completed(page).waitFor()
  expect(await shown(answers(page))).toEqual([words.join('').trim()])
  expect(await shown(questions(page))).toEqual(['배송은 얼마나 걸리나요?'])
  expect(await shown(conversations(page))).toEqual(['배송은 얼마나 걸리나요?'])
  expect(problems).toEqual([])
})

test('a reload shows the same conversation', async () => {
  scripts.set('first', { content: 'one' })
  scripts.set('second', { content: '**two**\n\n- a\n- b' })
  const { page, problems } = await visit()
  await ask(page, 'first')
  await completed(page).nth(0).waitFor()
  await ask(page, 'second')
  await completed(page).nth(1).waitFor()
  const before = await shown(page.locator('.thread-content'))

  await page.reload()
  await completed(page).nth(1).waitFor()
  expect(await shown(page.locator('.thread-content'))).toEqual(before)
  expect(await shown(questions(page))).toEqual(['first', 'second'])
  expect(problems).toEqual([])
})

test('a reload, and another tab, go on streaming a running answer', async () => {
  const words = wordsOf(60)
  scripts.set('go on', { content: words, tokenDelayMs: 70 })
  const { page } = await visit()
  await ask(page, 'go on')
  await page.getByText('word3 ').waitFor()
  await page.reload()
  await page.getByText('word8 ').waitFor()
  expect((await shown(answers(page)))[0]).not.toContain('word59')
  const other = await page.context().newPage()
  await other.addInitScript({ content: RECORD_ANSWER })
  await other.goto(page.url())
  await other.getByText('word12 ').waitFor()
  expect((await shown(answers(other)))[0]).not.toContain('word59')

  const text = words.join('').trim()
  for (const tab of [page, other]) {
    await completed(tab).waitFor()
    expect(await shown(answers(tab))).toEqual([text])
    expect(await shown(questions(tab))).toEqual(['go on'])
    await expectOnlyGrowth(tab, text)
  }
  expect((await storedAnswers(page)).map(({ content }) => content)).toEqual([words.join('')])
})

test('a connection that is cut again and again loses nothing and repeats nothing', async () => {
  const words = wordsOf(60)
  scripts.set('cut me', { content: words, tokenDelayMs: 50 })
  const { page } = await visit()
  await ask(page, 'cut me')
  for (const word of ['word4 ', 'word20 ', 'word36 ']) {
    await page.getByText(word).waitFor()
    await page.context().setOffline(true)
    await reconnecting(page).waitFor()
    await page.context().setOffline(false)
  }
  await completed(page).waitFor()
  const text = words.join('').trim()
  expect(await shown(answers(page))).toEqual([text])
  await expectOnlyGrowth(page, text)
  expect((await storedAnswers(page)).map(({ content }) => content)).toEqual([words.join('')])
})

test('functions killed in the middle of an answer: the page goes on by itself, and can have it answered again', async () => {
  const words = wordsOf(200)
  scripts.set('survive', { content: words, tokenDelayMs: 40 })
  const { page } = await visit()
  await ask(page, 'survive')
  await page.getByText('word9 ').waitFor()
  const [before = ''] = await shown(answers(page))
  await killFunctions()
  await reconnecting(page).waitFor()
  expect((await shown(answers(page)))[0]).toContain(before)

  await failure(page).waitFor({ timeout: RESCUED_MS })
  const [kept = ''] = await shown(answers(page))
  expect(kept.startsWith(before)).toBe(true)
  await expectOnlyGrowth(page, kept)
  expect(await storedAnswers(page)).toMatchObject([
    { status: 'interrupted', content: expect.stringContaining(kept) },
  ])
  expect((await storedAnswers(page))[0]?.content.trim()).toBe(kept)

  scripts.set('survive', { content: 'alive' })
  await button(page, '다시 답변받기').click()
  await completed(page).waitFor()
  expect(await shown(answers(page))).toEqual(['alive'])
  expect(await shown(questions(page))).toEqual(['survive'])
  expect((await storedAnswers(page)).map(({ status }) => status)).toEqual(['interrupted', 'complete'])
})

test('a connection that falls silent is replaced', async () => {
  const { page } = await visit()
  await page.clock.install()
  await page.reload()
  scripts.set('hang', { content: ['one ', 'two ', 'three'], tokenDelayMs: 20, hangAfter: 2 })
  await ask(page, 'hang')
  await page.getByText('one two').waitFor()
  const resumed = page.waitForRequest(
    (request) => request.method() === 'GET' && /stream\/[^/]+$/.test(request.url()),
  )
  await page.clock.fastForward(46_000)
  await reconnecting(page).waitFor()
  await page.clock.fastForward(1_000)
  expect(Number((await resumed).headers()['last-event-id'])).toBeGreaterThan(1)
  await button(page, '답변 중지').click()
  await page.locator('.answer[data-status=stopped]').waitFor()
  expect(await shown(answers(page))).toEqual(['one two'])
})

test('an answer whose log is gone is read from what was saved', async () => {
  const words = wordsOf(20)
  scripts.set('long ago', { content: words, tokenDelayMs: 60 })
  const { page } = await visit()
  await ask(page, 'long ago')
  await answers(page).getByText('word2 ').waitFor()
  let isGone = false
  const error = { code: 'not_found', message: 'no', requestId: 'none' }
  await page.route('**/api/chat/stream/*', (route) =>
    isGone ? route.fulfill({ status: 404, json: { error } }) : route.abort(),
  )
  await page.context().setOffline(true)
  await reconnecting(page).waitFor()
  await page.context().setOffline(false)
  await expect.poll(() => storedAnswers(page), { timeout: RESCUED_MS }).toHaveLength(1)
  isGone = true
  await completed(page).waitFor()
  expect(await shown(answers(page))).toEqual([words.join('').trim()])
})

test('after minutes without a connection the page gives up, keeps what came, and goes on when asked', async () => {
  const words = wordsOf(30)
  scripts.set('far away', { content: words, tokenDelayMs: 40 })
  const { page } = await visit()
  await page.clock.install()
  await page.reload()
  await ask(page, 'far away')
  await page.getByText('word3 ').waitFor()
  await page.context().setOffline(true)
  await reconnecting(page).waitFor()
  await page.clock.fastForward('04:00')
  await failure(page).waitFor()
  expect((await shown(answers(page)))[0]).toContain('word3')

  await page.context().setOffline(false)
  await button(page, '다시 시도').click()
  await completed(page).waitFor()
  expect(await shown(answers(page))).toEqual([words.join('').trim()])
  await expectOnlyGrowth(page, words.join('').trim())
})

test('a stopped answer keeps what came, and the conversation goes on', async () => {
  const { page, problems } = await visit()
  for (const [index, stop] of [
    () => button(page, '답변 중지').click(),
    () => page.keyboard.press('Escape'),
  ].entries()) {
    const question = `stop ${index}`
    scripts.set(question, { content: wordsOf(200), tokenDelayMs: 40 })
    await ask(page, question)
    await answers(page).nth(index).getByText('word4 ').waitFor()
    await stop()
    const stopped = page.locator('.answer[data-status=stopped]').nth(index)
    await stopped.getByText('중지된 답변입니다.').waitFor()
    const [text = ''] = await shown(stopped.locator('.markdown'))
    expect(text.startsWith('word0 word1 ')).toBe(true)
    expect((await storedAnswers(page))[index]).toMatchObject({ status: 'stopped' })
    expect((await storedAnswers(page))[index]?.content.trim()).toBe(text)
  }
  await button(page, '다시 답변받기').click()
  await answers(page).nth(1).getByText('word4 ').waitFor()
  await page.keyboard.press('Escape')
  await page.getByText('2 / 2').waitFor()
  await ask(page, 'and now?')
  await completed(page).waitFor()
  expect((await shown(answers(page))).at(-1)).toBe('ok')
  expect(problems).toEqual([])
})

test('a finished answer can be made again; each stays to be read, and to be asked on from', async () => {
  const { page, problems } = await visit()
  scripts.set('choose', { content: 'one' })
  await ask(page, 'choose')
  await completed(page).waitFor()
  scripts.set('choose', { content: 'two' })
  await button(page, '다시 답변받기').click()
  await page.getByText('2 / 2').waitFor()
  expect(await shown(answers(page))).toEqual(['two'])
  await button(page, '이전 답변').click()
  expect(await shown(answers(page))).toEqual(['one'])

  await ask(page, 'below the first')
  await completed(page).nth(1).waitFor()
  expect(await shown(answers(page))).toEqual(['one', 'ok'])
  await page.reload()
  await completed(page).nth(1).waitFor()
  expect(await shown(answers(page))).toEqual(['one', 'ok'])
  expect(
    model.requests
      .at(-1)
      ?.chat?.messages.map(({ content }) => content)
      .slice(-3),
  ).toEqual(['choose', 'one', 'below the first'])
  expect(problems).toEqual([])
})

test('an answer that was made again unheard is found, not made a third time', async () => {
  const { page } = await visit()
  await ask(page, 'unheard')
  await completed(page).waitFor()
  scripts.set('unheard', { content: 'better' })
  await page.route('**/regenerate', async (route) => {
    await route.fetch()
    await route.abort('connectionreset')
  })
  await button(page, '다시 답변받기').click()
  await page.getByText('2 / 2').waitFor()
  expect(await shown(answers(page))).toEqual(['better'])
  expect(await storedAnswers(page)).toHaveLength(2)
})

test('when the model is not there, the question is kept and answered later', async () => {
  scripts.set('anybody?', { error: { status: 429, retryAfterSeconds: 60 } })
  const { page, problems } = await visit()
  await ask(page, 'anybody?')
  await failure(page).waitFor()
  expect((await shown(failure(page)))[0]).toContain('지금은 답변할 수 없습니다.')
  scripts.set('anybody?', { content: 'here' })
  await button(page, '다시 답변받기').click()
  await completed(page).waitFor()
  expect(await shown(questions(page))).toEqual(['anybody?'])
  expect(await shown(answers(page))).toEqual(['here'])
  expect(problems).toEqual([])
})

test('markup in an answer is text, not HTML', async () => {
  const content = [
    '<img src="x" onerror="window.wasRun = true"> <b>bold</b>',
    '<script>window.wasRun = true</script>',
    '[a](javascript:window.wasRun=true) [b](/api/health) ![c](https://example.com/c.png)',
    '[d](https://example.com/d)',
    '```html\n<i>code</i>\n```',
  ].join('\n\n')
  scripts.set('show markup', { content })
  const { page, problems } = await visit()
  await ask(page, 'show markup <u>now</u>')
  await completed(page).waitFor()
  await ask(page, 'show markup')
  await completed(page).nth(1).waitFor()

  const answer = answers(page).nth(1)
  expect(await answer.locator('img, script, b, i').count()).toBe(0)
  const [text] = await shown(answer)
  for (const markup of ['onerror="window.wasRun = true"', '<b>bold</b>', '<script>', '<i>code</i>'])
    expect(text).toContain(markup)
  expect(await shown(questions(page))).toEqual(['show markup <u>now</u>', 'show markup'])
  const links = await answer
    .locator('a')
    .evaluateAll((all) => all.map((link) => ['href', 'target', 'rel'].map((name) => link.getAttribute(name))))
  expect(links).toEqual([
    ['https://example.com/c.png', '_blank', 'noopener noreferrer'],
    ['https://example.com/d', '_blank', 'noopener noreferrer'],
  ])
  expect(await page.evaluate(`'wasRun' in window`)).toBe(false)
  expect(problems).toEqual([])
})

test('Enter during Korean composition does not send', async () => {
  const { page, problems } = await visit()
  const keyboard = await page.context().newCDPSession(page)
  const enter = { type: 'rawKeyDown', key: 'Enter', code: 'Enter' } as const
  await composer(page).focus()
  await keyboard.send('Input.imeSetComposition', { text: '안녕', selectionStart: 2, selectionEnd: 2 })
  await keyboard.send('Input.dispatchKeyEvent', { ...enter, windowsVirtualKeyCode: 229 })
  await keyboard.send('Input.dispatchKeyEvent', { ...enter, windowsVirtualKeyCode: 13 })
  expect(await composer(page).inputValue()).toBe('안녕')
  expect(await questions(page).count()).toBe(0)

  await keyboard.send('Input.insertText', { text: '안녕' })
  await page.keyboard.press('Shift+Enter')
  await page.keyboard.type('!')
  await page.keyboard.press('Enter')
  await completed(page).waitFor()
  expect(await shown(questions(page))).toEqual(['안녕\n!'])
  expect(await composer(page).inputValue()).toBe('')
  expect(problems).toEqual([])
})

test('an answer that breaks off is kept, explained, and replaced by another try', async () => {
  scripts.set('breaks', { content: ['half ', 'an ', 'answer'], tokenDelayMs: 50, cutAfter: 2 })
  const { page, problems } = await visit()
  await ask(page, 'breaks')
  await failure(page).waitFor()
  expect(await shown(answers(page))).toEqual(['half an'])
  expect((await shown(failure(page)))[0]).toMatch(/요청 번호\s+\S+/)

  scripts.set('breaks', { content: 'a whole answer' })
  await button(page, '다시 답변받기').click()
  await completed(page).waitFor()
  expect(await shown(answers(page))).toEqual(['a whole answer'])
  expect(await failure(page).count()).toBe(0)

  await page.reload()
  await completed(page).waitFor()
  expect(await shown(questions(page))).toEqual(['breaks'])
  expect(await shown(answers(page))).toEqual(['a whole answer'])
  expect(problems).toEqual([])
})

test('a question whose outcome is unknown is sent again as the same turn', async () => {
  const { page } = await visit()
  const keys: (string | undefined)[] = []
  await page.route('**/api/chat/stream', async (route) => {
    keys.push(route.request().headers()['idempotency-key'])
    // The server gets the first one, and answers; the page never hears of it.
    if (keys.length === 1) {
      await route.fetch()
      await route.abort('connectionreset')
    } else await route.continue()
  })
  await ask(page, 'twice')
  await completed(page).waitFor()
  expect(await failure(page).count()).toBe(0)
  expect(await shown(questions(page))).toEqual(['twice'])

  expect(keys[0]).toMatch(/\S/)
  expect(new Set(keys).size).toBe(1)
  await page.reload()
  await completed(page).waitFor()
  expect(await shown(questions(page))).toEqual(['twice'])
  expect(model.requests.filter(({ chat }) => chat?.messages.at(-1)?.content === 'twice')).toHaveLength(1)
})

test('what is refused says so in place, and the question goes back to where it was written', async () => {
  const { page } = await visit(ENGLISH)
  await page.route('**/api/chat/stream', (route) =>
    route.fulfill({
      status: 429,
      headers: { 'retry-after': '60', 'x-request-id': 'the-request' },
      json: { error: { code: 'rate_limited', message: 'no', requestId: 'the-request' } },
    }),
  )
  await ask(page, 'too much')
  await failure(page).waitFor()
  const [words] = await shown(failure(page))
  expect(words).toMatch(/You can try again from \d+:\d\d:\d\d/)
  expect(words).toContain('the-request')
  expect(await page.getByRole('button', { name: 'Try again' }).isDisabled()).toBe(true)
  await page.getByRole('button', { name: 'Edit' }).click()
  expect(await composer(page).inputValue()).toBe('too much')
  expect(await failure(page).count()).toBe(0)
})

test('a new title, a rating, the end of a conversation and a draft survive a reload', async () => {
  const { page, problems } = await visit(ENGLISH)
  await ask(page, 'hello')
  await completed(page).waitFor()
  await page.getByRole('button', { name: 'Rename' }).click()
  await page.keyboard.type('A better title')
  await page.keyboard.press('Enter')
  await expect.poll(() => conversations(page).allInnerTexts()).toEqual(['A better title'])
  const helpful = page.getByRole('button', { name: 'Helpful', exact: true })
  await Promise.all([page.waitForResponse('**/feedback'), helpful.click()])

  await page.keyboard.press('Control+k')
  await composer(page).fill('not sent yet')
  await page.reload()
  await conversations(page).first().waitFor()
  expect(await composer(page).inputValue()).toBe('not sent yet')

  await conversations(page).locator('a').click()
  await completed(page).waitFor()
  expect(await shown(page.locator('h1'))).toEqual(['A better title'])
  expect(await helpful.getAttribute('aria-pressed')).toBe('true')
  await page.getByRole('button', { name: 'End conversation' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'End conversation' }).click()
  await page.locator('.ended').waitFor()

  await page.reload()
  await page.locator('.ended').waitFor()
  expect(await shown(answers(page))).toEqual(['ok'])
  expect(await composer(page).count()).toBe(0)
  expect(problems).toEqual([])
})

test('at 390 px nothing is wider than the screen, and the list is a drawer', async () => {
  const wide = `${'가나다'.repeat(60)} https://example.com/${'x'.repeat(200)}`
  const content = `${wide}\n\n\`\`\`\n${'code '.repeat(60)}\n\`\`\`\n\n|${' h |'.repeat(12)}\n|${'---|'.repeat(12)}`
  scripts.set(wide, { content })
  const { page, problems } = await visit(PHONE)
  const width = () => page.evaluate('document.documentElement.scrollWidth')
  expect(await width()).toBe(390)
  await ask(page, wide)
  await completed(page).waitFor()
  expect(await width()).toBe(390)
  const { x = 0, width: own = 0 } = (await answers(page).boundingBox()) ?? {}
  expect(x + own).toBeLessThanOrEqual(390)

  const list = page.getByRole('complementary')
  expect(await list.isVisible()).toBe(false)
  await page.getByRole('button', { name: '대화 목록 열기' }).click()
  await list.waitFor()
  expect(await width()).toBe(390)
  await page.keyboard.press('Escape')
  await list.waitFor({ state: 'hidden' })
  expect(problems).toEqual([])
})

test("the page speaks the browser's language", async () => {
  for (const [options, language, label] of [
    [KOREAN, 'ko', '메시지 입력'],
    [ENGLISH, 'en', 'Your message'],
    [{ ...ENGLISH, locale: 'fr-FR' }, 'en', 'Your message'],
  ] as const) {
    const { page } = await visit(options)
    await page.getByLabel(label).waitFor()
    expect(await page.locator('html').getAttribute('lang')).toBe(language)
  }
})
