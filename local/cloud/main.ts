/**
 * The cloud process: holds all state. The supervisor starts it, and the functions after it.
 *
 * IPC out: {type:'listening', functionEnvironment, address, uses}, then {type:'ready'}; or {type:'failed', message}
 * before it ends with 1. IPC in: {type:'environment-ended'} when the functions' process has ended,
 * {type:'drain'} to refuse what is new. SIGTERM closes it.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { resources as allResources, type Resources } from '../../lib/resources.ts'
import { lockDirectory } from '../lock-directory.ts'
import { type Cloud, type ModelSettings, startCloud } from './cloud.ts'
import { checkVariables } from './variables.ts'

/** A cloud that lost its supervisor a moment ago may still be closing. */
const LOCK_WAIT_MS = 10_000
const DEFAULT_PORT = 8787
const DEFAULT_TOKEN_DELAY_MS = 20 // about the pace of a real model

const { env } = process
const dataDir = env.TURNKEEP_DATA_DIR
/** Where commands that are processes of their own (ops/) find what runs here; nothing secret. */
const addressFile = dataDir && join(dataDir, 'local.json')
/** Others than the product's own, as JSON: tests have some. */
const resources: Resources = env.TURNKEEP_RESOURCES
  ? JSON.parse(readFileSync(env.TURNKEEP_RESOURCES, 'utf8'))
  : allResources
let cloud: Cloud | undefined
let stopping = false

process.on('SIGINT', () => undefined) // Ctrl-C is the supervisor's to handle
// Nobody reads any more what is written here: no reason to die.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined)
process.on('SIGTERM', stop)
process.on('disconnect', stop) // the supervisor died
process.on('message', (message: { type?: string }) => {
  if (message.type === 'environment-ended')
    cloud?.runtimeApi.environmentEnded(Object.keys(resources.functions))
  if (message.type === 'drain') cloud?.refuse()
})

try {
  checkVariables(env)
  if (dataDir && !lockDirectory(dataDir, 'cloud', LOCK_WAIT_MS)) {
    throw new Error(`Another process still uses ${dataDir}.`)
  }
  cloud = await startCloud({
    dataDir,
    databaseUrl: env.DATABASE_URL || undefined,
    valkeyUrl: env.VALKEY_URL || undefined,
    port: Number(env.PORT || DEFAULT_PORT),
    pageDir: env.TURNKEEP_PAGE_DIR,
    resources,
    model: modelFrom(env),
    scriptedModel: { tokenDelayMs: Number(env.SCRIPTED_TOKEN_DELAY_MS ?? DEFAULT_TOKEN_DELAY_MS) },
    log: (problem) => console.error(problem),
  })
  const { functionEnvironment, address, uses } = cloud
  if (addressFile)
    writeFileSync(
      addressFile,
      JSON.stringify(
        addressesOf({ ...functionEnvironment, JOBS_DEAD_QUEUE_URL: cloud.fauxqs.queueUrl('jobs-dead') }),
      ),
    )
  void tell({ type: 'listening', functionEnvironment, address, uses })
  await cloud.open()
  void tell({ type: 'ready' })
} catch (error) {
  if (!stopping) {
    await tell({ type: 'failed', message: messageOf(error) })
    await cloud?.close().catch(() => undefined)
    process.exit(1)
  }
}

/** By the variables that an operator's commands know them by. */
function addressesOf(environment: Record<string, string>): Record<string, string | undefined> {
  const told = [
    'TURNS_QUEUE_URL',
    'TURNS_DEAD_QUEUE_URL',
    'JOBS_DEAD_QUEUE_URL',
    'CONTENT_BUCKET',
    'DATABASE_CLUSTER_ARN',
    'DATABASE_SECRET_ARN',
    'DATABASE_NAME',
    'AWS_ENDPOINT_URL_SQS',
    'AWS_ENDPOINT_URL_S3',
    'AWS_ENDPOINT_URL_RDS_DATA',
    'HOT_STORE',
  ]
  return Object.fromEntries(told.map((name) => [name, environment[name]]))
}

/** A supervisor that has just died hears nothing; `disconnect` follows. */
function tell(message: object): Promise<void> {
  return new Promise((resolve) => {
    if (process.connected) process.send?.(message, undefined, undefined, () => resolve())
    else resolve()
  })
}

/** Undefined where no endpoint is named: a key alone may just lie in a developer's shell, and using it costs money. */
function modelFrom({ OPENAI_BASE_URL, OPENAI_API_KEY, CHAT_MODEL, EMBEDDING_MODEL }: NodeJS.ProcessEnv) {
  if (!OPENAI_BASE_URL) return undefined
  const settings: ModelSettings = {
    baseUrl: OPENAI_BASE_URL,
    apiKey: OPENAI_API_KEY || 'none', // servers on one's own machine want none, the client wants one
    chatModel: CHAT_MODEL || 'gpt-5-mini',
    embeddingModel: EMBEDDING_MODEL || 'text-embedding-3-small',
  }
  return settings
}

function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') {
    return `Port ${env.PORT || DEFAULT_PORT} is taken. Set PORT to another one, or to 0 for any free one.`
  }
  return error.message
}

async function stop(): Promise<void> {
  if (stopping) return
  stopping = true
  if (addressFile) rmSync(addressFile, { force: true })
  await cloud?.close()
  process.exit(0)
}
