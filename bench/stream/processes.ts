/** Processes that are measured, from outside. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import type { Profiler } from 'node:inspector/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { FromChild, Memory, ToChild } from './child.ts'

export interface Measured {
  pid: number
  url: string
  /** After a collection of what is garbage. */
  memory(): Promise<Memory>
  /** Begins to count the bytes that it allocates on its heap; what it returns ends that. */
  allocations(): Promise<() => Promise<number>>
  /** Begins a profile; what it returns ends it. */
  profile(): Promise<() => Promise<Profiler.Profile>>
  /** What it has complained of so far: something did not go its usual way, and figures are to be read with that. */
  complaints(): string[]
  close(): Promise<void>
}

type Environment = Record<string, string | undefined>

/** `file` stands beside this one. What it logs goes nowhere. */
export async function startMeasured(file: string, environment: Environment = {}): Promise<Measured> {
  const child = startProcess(join(import.meta.dirname, file), environment, ['--expose-gc'])
  const ask = <Type extends ToChild['type']>(type: Type) => {
    const answer = told<Type, FromChild>(child, type)
    child.send({ type } satisfies ToChild)
    return answer
  }
  const complaints = listen(child)
  const { url } = await told<'listening', FromChild>(child, 'listening')
  return {
    pid: child.pid ?? 0,
    url,
    memory: async () => (await ask('memory')).memory,
    allocations: async () => {
      await ask('allocations')
      return async () => (await ask('allocated')).bytes
    },
    profile: async () => {
      await ask('profile')
      return async () => (await ask('profiled')).profile
    },
    complaints: () => [...complaints].map(([words, times]) => `${times} x ${words}`),
    close: async () => {
      const gone = once(child, 'exit')
      if (child.connected) child.disconnect()
      if (child.exitCode === null && child.signalCode === null) await gone
    },
  }
}

export function startProcess(file: string, environment: Environment, execArgv: string[] = []): ChildProcess {
  const child = fork(file, {
    execArgv,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    env: { PATH: process.env.PATH, ...environment },
  })
  child.stderr?.resume() // or it would wait for somebody to read it
  return child
}

/** Counts lines on its standard error: a log's by its message and its error's, others by themselves. */
function listen(child: ChildProcess): Map<string, number> {
  const complaints = new Map<string, number>()
  if (child.stderr)
    createInterface(child.stderr).on('line', (line) => {
      const words = wordsOf(line)
      complaints.set(words, (complaints.get(words) ?? 0) + 1)
    })
  return complaints
}

function wordsOf(line: string): string {
  try {
    const { message, error } = JSON.parse(line)
    return error?.message ? `${message}: ${error.message}` : message
  } catch {
    return line
  }
}

/** Waits for a message; rejects where the process says that it failed, or ends before. */
export function told<Type extends string, Message extends { type: string }>(
  child: ChildProcess,
  type: Type,
): Promise<Extract<Message, { type: Type }>> {
  return new Promise((resolve, reject) => {
    const settle = (end: () => void) => {
      child.off('message', onMessage)
      child.off('exit', onExit)
      end()
    }
    const onMessage = (message: { type: string; message?: string }) => {
      if (message.type === type) settle(() => resolve(message as Extract<Message, { type: Type }>))
      if (message.type === 'failed') settle(() => reject(new Error(message.message)))
    }
    const onExit = () => settle(() => reject(new Error(`A process has ended that was to say "${type}".`)))
    child.on('message', onMessage)
    child.on('exit', onExit)
  })
}

export async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  child.kill(signal)
  await gone
}
