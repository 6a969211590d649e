/** What the page makes of bytes and of text, without a browser. */
import { describe, expect, test } from 'vitest'
import type { Message } from '../../lambdas/protocol/messages.ts'
import { branchThrough, merge, newestBranch } from '../../web/conversation/branch.ts'
import { blocksOf, spokenText, withoutParticle } from '../../web/markdown.ts'
import { readEvents, type ServerSentEvent } from '../../web/sse.ts'

async function eventsOf(text: string, bytesAtOnce: number): Promise<ServerSentEvent[]> {
  const bytes = new TextEncoder().encode(text)
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (let from = 0; from < bytes.length; from += bytesAtOnce)
        controller.enqueue(bytes.slice(from, from + bytesAtOnce))
      controller.close()
    },
  })
  return Array.fromAsync(readEvents(body))
}

describe('server-sent events', () => {
  const lines = [
    '\uFEFF: hello',
    'id: 0',
    'data: {"a":"안녕 👋"}',
    '',
    ': ping',
    '',
    'id:1',
    'data:x',
    'data: y',
    'event: z',
    '',
    'data',
    '',
    'id: 2',
    'data: data: : z',
    '',
    'data: cut off',
  ]
  test.each(['\n', '\r\n', '\r'])('are the same with %j, however the bytes are cut', async (lineEnd) => {
    for (const bytesAtOnce of [1, 2, 3, 5, 7, 1_000]) {
      expect(await eventsOf(lines.join(lineEnd), bytesAtOnce)).toEqual([
        { id: '0', data: '{"a":"안녕 👋"}' },
        { id: '1', data: 'x\ny' },
        { id: '1', data: '' },
        { id: '2', data: 'data: : z' },
      ])
    }
  })
})

describe('Markdown', () => {
  const inline = (text: string) => blocksOf(text)[0]?.tokens[1]?.children?.map(({ type }) => type)
  test.each(['**배송비(무료)**는 그렇다', '이것은**"인용"**이다'])(
    '%s is emphasised before a particle',
    (text) => {
      expect(inline(text)).toContain('strong_open')
    },
  )
  test('asterisks between spaces stay what they are', () => {
    expect(inline('2 ** 3 ** 4')).not.toContain('strong_open')
  })
  test('a particle is no part of an address', () => {
    expect(withoutParticle('https://example.com/docs를')).toEqual(['https://example.com/docs', '를'])
    expect(withoutParticle('https://example.com/배송')).toEqual(['https://example.com/배송', ''])
  })
  test('blocks are read out as words', () => {
    const text = 'a **b**\nc\n\n- b\n- c\n\n```js\nx'
    expect(blocksOf(text).map(spokenText)).toEqual(['a b c', 'b c', 'x'])
  })
})

describe('branches', () => {
  const message = (
    messageId: string,
    parentMessageId: string | null,
    sequenceNumber: number,
    second: number,
  ) => ({ messageId, parentMessageId, sequenceNumber, createdAt: `2026-01-01T00:00:0${second}Z` }) as Message
  const all = merge(
    [],
    [
      message('q1', null, 1, 0),
      message('a1', 'q1', 2, 1),
      message('q2', 'a1', 3, 2),
      message('a2', 'q2', 4, 3),
      message('q2 again', 'a1', 3, 4),
      message('a2 again', 'q2 again', 4, 5),
    ],
  )
  const ids = (messages: Message[]) => newestBranch(messages).map(({ messageId }) => messageId)

  test('the one written last is shown, from its first question on', () => {
    expect(ids(all)).toEqual(['q1', 'a1', 'q2 again', 'a2 again'])
  })
  test('another one is shown through any of its messages, on to its end', () => {
    for (const chosen of ['q2', 'a2'])
      expect(branchThrough(all, chosen).map(({ messageId }) => messageId)).toEqual(['q1', 'a1', 'q2', 'a2'])
  })
  test('a deleted message does not cut off what came before it', () => {
    expect(ids(all.filter(({ messageId }) => messageId !== 'a1'))).toEqual(['q1', 'q2 again', 'a2 again'])
  })
})
