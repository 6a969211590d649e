import { type ChildProcess, fork } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'
import { COMPILE_CACHE } from './compile-cache.ts'

/** A process that the supervisor has started. */
export type Child = {
  send(message: object): void
  kill(signal: NodeJS.Signals): void
  /** Resolves when it has ended, with its exit code or the signal that ended it. */
  ended: Promise<number | NodeJS.Signals | null>
}

type Options = {
  file: string
  environment: Record<string, string | undefined>
  pidFile: string
  onMessage(message: { type?: string } & Record<string, unknown>): void
}

/** In a process group of its own, so that Ctrl-C reaches the supervisor alone, which then ends it in order. */
export function startChild({ file, environment, pidFile, onMessage }: Options): Child {
  const child: ChildProcess = fork(file, {
    detached: true,
    env: { ...COMPILE_CACHE, ...environment },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  if (child.pid) writeFileSync(pidFile, `${child.pid}\n`)
  child.on('message', onMessage)
  const ended = new Promise<number | NodeJS.Signals | null>((resolve) => {
    child.on('exit', (code, signal) => resolve(code ?? signal))
    child.on('error', (error) => {
      console.error(`${file}: ${error.message}`)
      if (child.pid === undefined) resolve(null) // it could not be started at all
    })
  })
  void ended.then(() => rmSync(pidFile, { force: true }))
  return {
    send: (message) => {
      if (child.connected) child.send(message, () => undefined) // it may have ended just now
    },
    kill: (signal) => void child.kill(signal),
    ended,
  }
}
