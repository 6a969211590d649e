import { join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Child, startChild } from './child.ts'

const FIRST_RESTART_MS = 100
const LAST_RESTART_MS = 5_000
/** One that lived so long was sound: its successor starts at once. */
const SOUND_MS = 10_000
/** How long running answers may go on before they are interrupted. */
const DRAIN_MS = 5_000
/** A little more than the functions allow themselves after SIGTERM. */
const INTERRUPT_MS = 6_000
/** The database finishes what it is writing. */
const CLOSE_MS = 15_000

type Environment = Record<string, string | undefined>

/** Nobody collects metrics here; they would bury the log. */
const QUIET: Environment = { POWERTOOLS_METRICS_DISABLED: 'true' }

export type Listening = {
  functionEnvironment: Record<string, string>
  address: string
  uses: { database: string; model: string; hotStore: string }
}

export type Supervisor = {
  /** Rejects when the first start fails; whatever fails later is tried again. */
  ready: Promise<Listening>
  /** Ends both processes in order: answers get a moment, then are interrupted, then all state is closed. */
  stop(): Promise<void>
  /** No more waiting for answers; the second time, not for the state either. */
  hurry(): void
}

/** Keeps the cloud and the functions running. A new cloud gets new functions, since its addresses changed. */
export function supervise(dataDir: string, environment: Environment): Supervisor {
  const ready = Promise.withResolvers<Listening>()
  const idle = Promise.withResolvers<void>()
  let isReady = false
  let isStopping = false
  let isHurried = false
  let cloud: Child | undefined
  let functions: Child | undefined
  let port: string | undefined

  const keepCloud = async (): Promise<void> => {
    const backOff = createBackOff()
    while (!isStopping) {
      await liveOnce()
      if (!isReady) return
      await backOff()
    }
  }

  const liveOnce = async (): Promise<void> => {
    let listening: Listening | undefined
    let over = false
    let functionsOver = Promise.resolve()
    const started = startChild({
      file: resolve(import.meta.dirname, 'cloud/main.ts'),
      // A restart keeps the port, also one that was chosen freely: clients know it.
      environment: { ...environment, ...(port && { PORT: port }) },
      pidFile: join(dataDir, 'cloud.pid'),
      onMessage: (message) => {
        if (message.type === 'listening') {
          listening = message as unknown as Listening
          port = new URL(listening.address).port
          functionsOver = keepFunctions(listening.functionEnvironment, started, () => over)
        } else if (message.type === 'failed') {
          problem(`The cloud did not start: ${message.message}`)
        } else if (message.type === 'ready' && listening) {
          isReady = true
          ready.resolve(listening)
        }
      },
    })
    cloud = started
    const how = await started.ended
    over = true
    cloud = undefined
    if (!isStopping) problem(`The cloud process ended (${how}).`)
    functions?.kill('SIGKILL')
    await functionsOver
  }

  const keepFunctions = async (
    settings: Environment,
    itsCloud: Child,
    isOver: () => boolean,
  ): Promise<void> => {
    const backOff = createBackOff()
    while (!isStopping && !isOver()) {
      functions = startChild({
        file: resolve(import.meta.dirname, 'functions/main.ts'),
        environment: { ...QUIET, ...withoutAws(environment), ...settings },
        pidFile: join(dataDir, 'functions.pid'),
        onMessage: (message) => {
          if (message.type === 'idle') idle.resolve()
        },
      })
      const how = await functions.ended
      functions = undefined
      itsCloud.send({ type: 'environment-ended' })
      if (isStopping || isOver()) return
      // Killed is like a crash of Lambda; a 1 at the first start is a handler that cannot be loaded.
      if (!isReady && how === 1) return problem('The functions did not start; the message above says why.')
      console.error(`The functions process ended (${how}); it is started again.`)
      await backOff()
    }
  }

  const problem = (message: string): void => {
    if (isReady) console.error(message)
    else ready.reject(new Error(message))
  }

  void keepCloud()
  return {
    ready: ready.promise,
    stop: async () => {
      isStopping = true
      cloud?.send({ type: 'drain' })
      if (functions && !isHurried) {
        functions.send({ type: 'drain' })
        await Promise.race([idle.promise, functions.ended, delay(DRAIN_MS)])
      }
      await end(functions, INTERRUPT_MS)
      await end(cloud, CLOSE_MS)
    },
    hurry: () => {
      if (isHurried) cloud?.kill('SIGKILL')
      isHurried = true
      functions?.kill('SIGKILL')
    },
  }
}

async function end(child: Child | undefined, patienceMs: number): Promise<void> {
  if (!child) return
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), patienceMs)
  await child.ended
  clearTimeout(timer)
}

/** Each wait is twice the one before, until one lived long enough. */
function createBackOff(): () => Promise<void> {
  let waitMs = FIRST_RESTART_MS
  let startedAt = Date.now()
  return async () => {
    if (Date.now() - startedAt > SOUND_MS) waitMs = FIRST_RESTART_MS
    await delay(waitMs)
    waitMs = Math.min(waitMs * 2, LAST_RESTART_MS)
    startedAt = Date.now()
  }
}

/** A developer's own AWS account is no business of functions that run locally. */
function withoutAws(environment: Environment): Environment {
  return Object.fromEntries(Object.entries(environment).filter(([name]) => !name.startsWith('AWS_')))
}
