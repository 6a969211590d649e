import { expect, test } from 'vitest'
import { estimateTokens } from '../../lambdas/protocol/text.ts'
import { buildContext } from '../../lambdas/replies/context.ts'
import type { StoredMessage } from '../../lambdas/services/hot-store.ts'

const message = (role: 'user' | 'assistant', content: string): StoredMessage =>
  ({ role, content }) as StoredMessage
const conversation = [
  message('user', '첫 질문'),
  message('assistant', '첫 답변'),
  message('user', '둘째 질문'),
  message('assistant', '둘째 답변'),
]

test('the question comes last, after the system prompt and the history', () => {
  const context = buildContext(conversation, '셋째', { systemPrompt: 'Be kind.', historyTokens: 1_000 })
  expect(context.messages.map(({ content }) => content)).toEqual([
    'Be kind.',
    '첫 질문',
    '첫 답변',
    '둘째 질문',
    '둘째 답변',
    '셋째',
  ])
  expect(context.historyLength).toBe(4)
})

test('where the budget ends the oldest messages are left out, and never half a turn', () => {
  const three = estimateTokens('둘째 답변') + estimateTokens('둘째 질문') + estimateTokens('첫 답변')
  const context = buildContext(conversation, '셋째', { systemPrompt: '', historyTokens: three })
  expect(context.messages.map(({ content }) => content)).toEqual(['', '둘째 질문', '둘째 답변', '셋째'])
})

test('a budget of nothing leaves the question alone', () => {
  expect(buildContext(conversation, '셋째', { systemPrompt: '', historyTokens: 0 }).historyLength).toBe(0)
})

test('Korean counts a token a character, English one for four', () => {
  expect(estimateTokens('배송 정책')).toBe(5)
  expect(estimateTokens('shipping')).toBe(2)
  expect(estimateTokens('')).toBe(0)
})
