/**
 * `npm start`: the whole of Turnkeep on this machine. PORT (8787), TURNKEEP_DATA_DIR (.turnkeep), DATABASE_URL,
 * VALKEY_URL (phase 2), OPENAI_BASE_URL, OPENAI_API_KEY, CHAT_MODEL and EMBEDDING_MODEL change what it uses.
 */
import { join, relative, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { lockDirectory } from './lock-directory.ts'
import { type Listening, supervise } from './supervisor.ts'

/** npm passes on the signal that the terminal has sent already: two so close together are one. */
const SAME_SIGNAL_MS = 500

const root = resolve(import.meta.dirname, '..')
const dataDir = resolve(process.env.TURNKEEP_DATA_DIR || join(root, '.turnkeep'))
/** A page that is built already is taken as it is. */
const builtPageDir = process.env.TURNKEEP_PAGE_DIR
const pageDir = builtPageDir || join(dataDir, 'page')

if (!lockDirectory(dataDir, 'supervisor')) fail(`Turnkeep is already running on ${dataDir}.`)
if (!builtPageDir) await buildPage().catch((error) => fail(`The page could not be built: ${error.message}`))
const supervisor = supervise(dataDir, {
  ...process.env,
  TURNKEEP_DATA_DIR: dataDir,
  TURNKEEP_PAGE_DIR: pageDir,
})

let firstSignalAt: number | undefined
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, onSignal)
supervisor.ready.then(announce, async (error: Error) => {
  if (firstSignalAt !== undefined) return
  await supervisor.stop()
  fail(error.message)
})

async function buildPage(): Promise<void> {
  const builder = await import(pathToFileURL(join(root, 'web/build.ts')).href)
  await builder.buildPage(pageDir)
}

function announce({ address, uses }: Listening): void {
  console.log(`\nTurnkeep is ready at ${address}`)
  console.log(`  page      ${address}/`)
  console.log(`  database  ${uses.database}`)
  console.log(`  hot store ${uses.hotStore}`)
  console.log(`  model     ${uses.model}`)
  const below = relative(process.cwd(), dataDir)
  console.log(`  state     ${below.startsWith('..') ? dataDir : below || '.'}\n`)
}

async function onSignal(): Promise<void> {
  const now = Date.now()
  if (firstSignalAt !== undefined) {
    if (now - firstSignalAt > SAME_SIGNAL_MS) supervisor.hurry()
    return
  }
  firstSignalAt = now
  console.log('\nStopping: running answers get a moment to finish.')
  await supervisor.stop()
  process.exit(0)
}

function fail(message: string): never {
  console.error(message)
  process.exit(1)
}
