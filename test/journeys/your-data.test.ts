/** People see, take along and erase what is kept of them: the page in a real browser, on the real local cloud. */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import type { Browser, BrowserContextOptions, Page } from 'playwright-core'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { buildPage } from '../../web/build.ts'
import {
  ask,
  button,
  chromiumPath,
  completed,
  ENGLISH,
  KOREAN,
  launchChromium,
  newVisit,
  PHONE,
  questions,
  shown,
  type Visit,
} from '../harness/browser.ts'
import { startTurnkeep, type Turnkeep } from '../harness/turnkeep.ts'

let pageDir: string
let turnkeep: Turnkeep
let browser: Browser

beforeAll(async () => {
  if (chromiumPath === undefined) return
  pageDir = await mkdtemp(join(tmpdir(), 'turnkeep-your-data-'))
  await buildPage(pageDir)
  turnkeep = await startTurnkeep({ name: 'your-data', pageDir })
  browser = await launchChromium()
})

afterAll(async () => {
  if (chromiumPath === undefined) return
  await browser?.close()
  await turnkeep?.close()
  await rm(pageDir, { recursive: true, force: true })
})

beforeEach((context) => {
  context.skip(chromiumPath === undefined, 'Chromium is missing: set CHROMIUM_PATH to run these')
})

async function visit(options: BrowserContextOptions): Promise<Visit> {
  const visited = await newVisit(browser, { ...options, acceptDownloads: true })
  await visited.page.goto(turnkeep.address)
  return visited
}

const dialog = (page: Page) => page.locator('.data-dialog')
/** Pictures for people to look at, where a folder is named. */
const picture = async (page: Page, name: string): Promise<void> => {
  const folder = process.env.PAGE_PICTURES
  if (folder) await page.screenshot({ path: join(folder, `${name}.png`) })
}

test('a person sees what is kept, takes a copy and erases everything, in Korean', async () => {
  const { page, problems } = await visit(KOREAN)
  await ask(page, '첫 질문 😀')
  await completed(page).nth(0).waitFor()
  await ask(page, '둘째 질문')
  await completed(page).nth(1).waitFor()
  await turnkeep.drained()

  await button(page, '내 데이터').click()
  await dialog(page).getByText('대화 1개, 메시지 4개가 보관되어 있습니다.').waitFor()
  await picture(page, 'your-data-wide')
  await button(page, '사본 만들기').click()
  const link = page.getByRole('link', { name: '내려받기' })
  await link.waitFor()
  const [download] = await Promise.all([page.waitForEvent('download'), link.click()])
  expect(download.suggestedFilename()).toMatch(/^[0-9a-f-]{36}\.jsonl\.gz$/)
  const text = gunzipSync(await readFile(await download.path())).toString()
  expect(text).toContain('첫 질문 😀')

  await button(page, '삭제…').click()
  await dialog(page).getByText('누구도 되돌릴 수 없습니다').waitFor()
  await dialog(page).getByText('1년 동안 기록으로 남습니다').waitFor()
  await picture(page, 'your-data-asked-wide')
  await button(page, '취소').click()
  await button(page, '삭제…').waitFor()
  expect(await turnkeep.rows('select 1 from chat_sessions', TENANT)).toHaveLength(1)

  await button(page, '삭제…').click()
  await button(page, '되돌릴 수 없이 모두 삭제').click()
  await dialog(page).getByText('나눈 대화와 그에 딸린 모든 내용을 삭제했습니다.').waitFor()
  expect(await turnkeep.rows('select 1 from chat_sessions', TENANT)).toEqual([])
  await button(page, '닫기').click()
  await page.getByText('나눈 대화가 여기에 표시됩니다.').waitFor()
  expect(await questions(page).count()).toBe(0)
  expect(await page.evaluate('Object.keys(localStorage)')).toEqual(['turnkeep.user'])
  expect(problems).toEqual([])

  // The same person goes on.
  await ask(page, '다시 왔어요')
  await completed(page).waitFor()
  expect(await shown(page.locator('.sidebar li'))).toEqual(['다시 왔어요'])
})

/** That of the local front door. */
const TENANT = { companyId: 'demo', platform: 'web' }

test('it says the same in English, and fits a phone', async () => {
  const { page } = await visit({ ...PHONE, locale: 'en-US' })
  await ask(page, 'hello')
  await completed(page).waitFor()
  await button(page, 'Show conversations').click()
  await button(page, 'Your data').click()
  await dialog(page).getByText('1 conversation with 2 messages are kept for you.').waitFor()
  await button(page, 'Erase…').click()
  await dialog(page).getByText('nobody can bring them back').waitFor()
  await dialog(page).getByText('stays on record for a year').waitFor()
  await picture(page, 'your-data-asked-phone')
  const { x = -1, width = 0 } = (await dialog(page).boundingBox()) ?? {}
  expect(x).toBeGreaterThanOrEqual(0)
  expect(x + width).toBeLessThanOrEqual(390)
  expect(await page.evaluate('document.documentElement.scrollWidth')).toBeLessThanOrEqual(390)
})

test('an erasure that fails says so, and may be asked for again', async () => {
  const { page } = await visit(KOREAN)
  await ask(page, '남은 것')
  await completed(page).waitFor()
  // As the function `jobs` leaves it after its last attempt.
  let isFailing = true
  await page.route('**/api/user', async (route) => {
    const answer = await route.fetch()
    const body = await answer.json()
    const erasure = body.erasure && isFailing ? { ...body.erasure, status: 'failed' } : body.erasure
    await route.fulfill({ response: answer, json: { ...body, erasure } })
  })
  await button(page, '내 데이터').click()
  await button(page, '삭제…').click()
  await button(page, '되돌릴 수 없이 모두 삭제').click()
  await dialog(page).getByText('아직 모두 삭제하지 못했습니다.').waitFor()
  await picture(page, 'your-data-failed-wide')
  isFailing = false
  await button(page, '되돌릴 수 없이 모두 삭제').click()
  await dialog(page).getByText('나눈 대화와 그에 딸린 모든 내용을 삭제했습니다.').waitFor()
})

test('where something fails it says so, and nothing is gone', async () => {
  const { page } = await visit(ENGLISH)
  await ask(page, 'stay')
  await completed(page).waitFor()
  await page.route('**/api/users/**', (route) =>
    route.fulfill({
      status: 503,
      json: { error: { code: 'unavailable', message: 'no', requestId: 'none' } },
    }),
  )
  await button(page, 'Your data').click()
  await button(page, 'Erase…').click()
  await button(page, 'Erase everything for good').click()
  await dialog(page).locator('.failure').getByText('That did not work.').waitFor()
  await button(page, 'Erase everything for good').waitFor()
  await button(page, 'Close').click()
  expect(await shown(questions(page))).toEqual(['stay'])
})
