/** The embedded Postgres, seen from the main thread: started, started again when it dies, stopped. */
import { mkdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import type { PgliteReady, PgliteWorkerData } from './pglite-worker.ts'

export interface Pglite {
  /** For psql too; user `postgres` is the superuser. No TLS and no password: it listens on the loopback address. */
  readonly url: string
  /**
   * Stops the running statement the only way that WebAssembly knows, by ending the thread; the database starts again
   * from its files, as after a crash. In memory nothing would be left, so there the statement runs on.
   */
  interrupt(): void
  close(): Promise<void>
}

const OWNER = 'turnkeep_owner'
const RESTART_DELAY_MS = 1_000
/** A statement may be running, and files survive a killed thread. */
const STOP_GRACE_MS = 5_000

export interface PgliteOptions {
  dataDir?: string | undefined
  /** A dump of another one's files, for one in memory. */
  beginWith?: string | undefined
}

/** Without a directory the database is in memory, and gone with the process or the first crash of its thread. */
export async function startPglite({ dataDir, beginWith }: PgliteOptions): Promise<Pglite> {
  if (dataDir !== undefined) mkdirSync(dataDir, { recursive: true })
  let isClosing = false
  let running = await launch({ dataDir, beginWith, owner: OWNER, port: 0 })
  const { port } = running
  const supervised = supervise()

  async function supervise() {
    while (!isClosing) {
      running.worker.once('error', ({ message }: Error) =>
        console.error(`The embedded Postgres failed: ${message}`),
      )
      await running.stopped
      if (isClosing) return
      if (dataDir === undefined) {
        console.error('The embedded Postgres died, and its data with it: it was in memory.')
        return
      }
      await launch({ dataDir, beginWith: undefined, owner: OWNER, port }).then(
        (next) => {
          running = next
        },
        (error: Error) => {
          console.error(`The embedded Postgres does not start: ${error.message}`)
          return sleep(RESTART_DELAY_MS)
        },
      )
    }
    await stop(running)
  }

  return {
    url: `postgres://${OWNER}@127.0.0.1:${port}/postgres?sslmode=disable`,
    interrupt() {
      if (dataDir !== undefined) void running.worker.terminate()
    },
    async close() {
      isClosing = true
      await stop(running)
      await supervised
    },
  }
}

interface Running {
  worker: Worker
  port: number
  stopped: Promise<void>
}

function launch(workerData: PgliteWorkerData): Promise<Running> {
  const worker = new Worker(new URL('./pglite-worker.ts', import.meta.url), { workerData })
  const stopped = new Promise<void>((resolve) => worker.once('exit', () => resolve()))
  return new Promise((resolve, reject) => {
    worker.once('message', ({ port }: PgliteReady) => resolve({ worker, port, stopped }))
    worker.once('error', reject)
    worker.once('exit', (code) => reject(new Error(`its thread ended with code ${code}`)))
  })
}

async function stop({ worker, stopped }: Running) {
  worker.postMessage('stop')
  const forced = setTimeout(() => void worker.terminate(), STOP_GRACE_MS)
  await stopped
  clearTimeout(forced)
}
