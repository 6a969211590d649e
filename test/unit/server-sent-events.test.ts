import { setImmediate as turn } from 'node:timers/promises'
import { expect, test, vi } from 'vitest'
import type { NumberedEvent } from '../../lambdas/protocol/chat.ts'
import { eventStream } from '../../lambdas/runtime/server-sent-events.ts'

const token = (id: number, content: string): NumberedEvent => ({ id, event: { type: 'token', content } })

test('events that come together leave in one write, and each is one event', async () => {
  const { body, finished } = eventStream(
    (async function* () {
      yield [token(0, 'a'), token(1, 'b\n\ndata: x')]
    })(),
  )
  await finished
  const chunks = await body.toArray()
  expect(chunks.map(String)).toEqual([
    'id: 0\ndata: {"type":"token","content":"a"}\n\nid: 1\ndata: {"type":"token","content":"b\\n\\ndata: x"}\n\n',
  ])
})

test('events are read to the end when the reader has gone', async () => {
  let read = 0
  const { body, finished } = eventStream(
    (async function* () {
      for (; read < 5; read += 1) {
        yield [token(read, 'a')]
        await turn()
      }
    })(),
  )
  body.destroy()
  await finished
  expect(read).toBe(5)
})

test('an error that escapes cuts the stream instead of ending it as if it were whole', async () => {
  const { body, finished } = eventStream(
    (async function* () {
      yield [token(0, 'a')]
      throw new Error('escaped')
    })(),
  )
  await expect(body.toArray()).rejects.toThrow('escaped')
  await finished
})

test('a silent stream is kept alive at least every 15 seconds', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
  try {
    const end = Promise.withResolvers<void>()
    const { body, finished } = eventStream(
      (async function* () {
        yield [token(0, 'a')]
        await end.promise
      })(),
    )
    let text = ''
    body.on('data', (chunk) => {
      text += chunk
    })
    await turn()
    for (let keptAlive = 1; keptAlive <= 3; keptAlive += 1) {
      vi.advanceTimersByTime(15_000)
      await turn()
      await turn()
      expect(text.match(/^: /gm)?.length).toBeGreaterThanOrEqual(keptAlive)
    }
    end.resolve()
    await finished
  } finally {
    vi.useRealTimers()
  }
})
