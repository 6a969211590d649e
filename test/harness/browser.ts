/** The page as people see it: in Chromium, found by its parts. */
import { existsSync } from 'node:fs'
import { type Browser, type BrowserContextOptions, chromium, type Locator, type Page } from 'playwright-core'
import { onTestFinished } from 'vitest'

/**
 * Of the list of this name Chromium takes the last: what Playwright switches off itself, and the two windows below the
 * address bar, which nobody sees and each new tab pays for with two processes.
 */
const SWITCHED_OFF = [
  'AvoidUnnecessaryBeforeUnloadCheckSync',
  'DestroyProfileOnBrowserClose',
  'HttpsUpgrades',
  'HttpsFirstBalancedModeAutoEnable',
  'LensOverlay',
  'MediaRouter',
  'PaintHolding',
  'ThirdPartyStoragePartitioning',
  'AvoidCorsURLLoaderRestartOnRedirect',
  'OptimizationHints',
  'NetworkTimeServiceQuerying',
  'AimEnabled',
  'PreconnectToSearch',
  'WebUIOmniboxPopup',
  'WebUIOmniboxAimPopup',
]

/** Chromium talks to its maker unless told not to, and cannot make a sandbox inside most containers. */
const BROWSER_ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  `--disable-features=${SWITCHED_OFF.join()}`,
]
export const KOREAN: BrowserContextOptions = { locale: 'ko-KR', viewport: { width: 1280, height: 800 } }
export const ENGLISH: BrowserContextOptions = { ...KOREAN, locale: 'en-US' }
export const PHONE: BrowserContextOptions = {
  locale: 'ko-KR',
  viewport: { width: 390, height: 844 },
  isMobile: true,
  hasTouch: true,
}

/** Runs in the page. */
const REPORT_REFUSALS = `document.addEventListener('securitypolicyviolation', (event) =>
  console.error('refused: ' + event.violatedDirective + ' ' + event.blockedURI))`

/** Undefined where there is none: then these tests are skipped. */
export const chromiumPath = [process.env.CHROMIUM_PATH, '/usr/bin/chromium', chromium.executablePath()].find(
  (path) => path !== undefined && existsSync(path),
)

export const launchChromium = (): Promise<Browser> =>
  chromium.launch({ ...(chromiumPath && { executablePath: chromiumPath }), args: BROWSER_ARGUMENTS })

export interface Visit {
  page: Page
  /** Errors on the console, exceptions, and what the content security policy refused. */
  problems: string[]
}

/** An empty tab of a browser that has never been anywhere; it is closed when the test ends. */
export async function newVisit(browser: Browser, options: BrowserContextOptions): Promise<Visit> {
  const context = await browser.newContext(options)
  onTestFinished(() => context.close())
  const page = await context.newPage()
  const problems: string[] = []
  page.on('console', (message) => {
    if (message.type() === 'error') problems.push(`${message.text()} (${message.location().url})`)
  })
  page.on('pageerror', (error) => problems.push(String(error.stack)))
  await page.addInitScript({ content: REPORT_REFUSALS })
  return { page, problems }
}

/** The texts as they are shown, one for each element. */
export const shown = async (locator: Locator): Promise<string[]> =>
  (await locator.allInnerTexts()).map((text) => text.trim())

export const composer = (page: Page) => page.locator('.composer textarea')
export const questions = (page: Page) => page.locator('.question p')
export const answers = (page: Page) => page.locator('.answer .markdown')
export const completed = (page: Page) => page.locator('.answer[data-status=complete]')
export const button = (page: Page, name: string) => page.getByRole('button', { name, exact: true })

export async function ask(page: Page, question: string): Promise<void> {
  await composer(page).fill(question)
  await page.locator('.send').click()
}
