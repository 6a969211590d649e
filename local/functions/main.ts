/**
 * The functions process: hosts the deployed handlers and holds no state. Killing it is what a crash of Lambda
 * is. TURNKEEP_FUNCTIONS says what it hosts: {name: {handler: file, runtimeApi: host:port}}.
 *
 * IPC in: {type:'drain'}. IPC out: {type:'polling'} when every handler is loaded, {type:'idle'} when, after a
 * drain, nothing runs any more.
 */
import { flushCompileCache } from 'node:module'
import { pathToFileURL } from 'node:url'
import { provideAwslambda } from './awslambda.ts'
import { type Handler, type HostedFunction, hostFunction } from './host.ts'
import { asFunction, markCalls } from './mark-calls.ts'
import { createRuntimeClient, type RuntimeClient } from './runtime-client.ts'

type FunctionSetting = { handler: string; runtimeApi: string }

/** How long handlers may take to finish after SIGTERM has told them to. */
const SHUTDOWN_MS = 5_000

const settings: Record<string, FunctionSetting> = JSON.parse(process.env.TURNKEEP_FUNCTIONS ?? '{}')
const clients: RuntimeClient[] = []
const hosted: HostedFunction[] = []
let draining = false
let stopping = false

process.on('SIGINT', () => undefined) // Ctrl-C is the supervisor's to handle
// Nobody reads any more what is written here: no reason to die.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined)
process.on('SIGTERM', stop)
process.on('disconnect', () => process.exit(1)) // the parent died
process.on('message', (message: { type?: string }) => {
  if (message.type !== 'drain') return
  draining = true
  for (const one of hosted) one.stop()
  settle()
})

provideAwslambda()
markCalls()
const handlers: [string, FunctionSetting, Handler][] = []
for (const [name, setting] of Object.entries(settings))
  handlers.push([name, setting, await load(name, setting)])
for (const [name, setting, handler] of draining || stopping ? [] : handlers) {
  const client = createRuntimeClient(setting.runtimeApi)
  clients.push(client)
  hosted.push(hostFunction(name, handler, client, { changed: settle, lost }))
}
tell({ type: 'polling' })
flushCompileCache() // It may be killed before it would be written.

async function load(name: string, { handler: file, runtimeApi }: FunctionSetting): Promise<Handler> {
  try {
    const { handler } = await asFunction(name, () => import(pathToFileURL(file).href))
    if (typeof handler !== 'function') throw new Error(`${file} exports no function named handler.`)
    return handler
  } catch (error) {
    console.error(`${name} did not start:`, error)
    await createRuntimeClient(runtimeApi)
      .failInit(error)
      .catch(() => undefined) // the message above is the one that counts
    process.exit(1)
  }
}

/** A supervisor that has just died hears nothing; `disconnect` follows. */
function tell(message: object): void {
  process.send?.(message, undefined, undefined, () => undefined)
}

function running(): number {
  return hosted.reduce((sum, one) => sum + one.running(), 0)
}

function settle(): void {
  if (running() > 0) return
  if (stopping) process.exit(0)
  if (draining) tell({ type: 'idle' })
}

function stop(): void {
  stopping = true
  for (const one of hosted) one.stop()
  setTimeout(() => process.exit(0), SHUTDOWN_MS)
  settle()
}

function lost(error: unknown): void {
  if (stopping) return
  console.error('The cloud does not answer:', error instanceof Error ? error.message : error)
  process.exit(1)
}
