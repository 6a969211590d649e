/** In which order a turn's requests leave: what the first token waits for goes before what travels meanwhile. */
import { resolve } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { inBothPhases, startTurnkeep, type Turnkeep } from '../harness/turnkeep.ts'

const RECORDER = resolve(import.meta.dirname, '../fixtures/requests-sent.ts')
/** Where the machine stands still for seconds, a connection has become too old, and the next turn makes a new one first. */
const ATTEMPTS = 5

inBothPhases('a turn whose connections stand', (phase) => {
  let turnkeep: Turnkeep
  beforeAll(async () => {
    turnkeep = await startTurnkeep({
      ...phase,
      name: 'order',
      environment: { NODE_OPTIONS: `--import=${RECORDER}` },
    })
  })
  afterAll(() => turnkeep.close())

  test('asks the model first, and then gives its question to the queue', async () => {
    const user = turnkeep.as()
    const { session } = await user.ask('hello')
    let sent: string[] = []
    for (let attempt = 0; attempt < ATTEMPTS && sent[0] !== 'model'; attempt += 1) {
      const before = turnkeep.output().length
      await user.ask({ message: 'hello again', sessionId: session?.sessionId })
      sent = [
        ...turnkeep
          .output()
          .slice(before)
          .matchAll(/^sent to the (.*)$/gm),
      ].map(([, where = '']) => where)
    }
    expect(sent.slice(0, 2)).toEqual(['model', 'queue'])
  })
})
