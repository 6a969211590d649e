/** The saving function beside the product's cloud, and what it takes to save a batch. */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { MessageRecord } from '../turns.ts'

export interface Handler {
  /** One record a queue message; milliseconds of the handler, with everything that it calls. */
  save(records: readonly MessageRecord[]): Promise<number>
  close(): Promise<void>
}

export async function startHandler(environment: Record<string, string>): Promise<Handler> {
  const child = fork(join(import.meta.dirname, 'handler-process.ts'), {
    execArgv: [],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    env: { PATH: process.env.PATH, POWERTOOLS_LOG_LEVEL: 'INFO', ...environment },
  })
  const ended = new Promise<never>((_, reject) => {
    child.once('exit', (code) => reject(new Error(`The handler's process ended with ${code}.`)))
  })
  ended.catch(() => undefined) // told to whoever waits
  const answer = async <Message>(): Promise<Message> => {
    const [message] = await Promise.race([once(child, 'message'), ended])
    return message
  }
  await answer()
  return {
    async save(records) {
      const answered = answer<{ ms: number; refused: number }>()
      child.send(records.map((record) => JSON.stringify({ records: [record] })))
      const { ms, refused } = await answered
      if (refused > 0) throw new Error(`The handler left ${refused} of ${records.length} messages.`)
      return ms
    },
    async close() {
      const gone = once(child, 'exit')
      child.disconnect()
      await gone
    },
  }
}
