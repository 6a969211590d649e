/** What the model is given: the system prompt, as much recent history as fits, and the question. */

import { estimateTokens } from '../protocol/text.ts'
import type { ModelMessage } from '../services/chat-model.ts'
import type { HistoryMessage } from '../services/hot-store.ts'

export interface ContextLimits {
  systemPrompt: string
  historyTokens: number
}

export interface ReplyContext {
  messages: ModelMessage[]
  /** Messages of history that fitted. */
  historyLength: number
}

/**
 * The newest messages win: history is cut off, oldest first, where the budget ends. It never begins with an answer
 * whose question was cut off, since some models refuse that.
 */
export function buildContext(
  history: readonly HistoryMessage[],
  question: string,
  limits: ContextLimits,
): ReplyContext {
  let left = limits.historyTokens
  let begin = history.length
  while (begin > 0) {
    left -= estimateTokens(history[begin - 1]?.content ?? '')
    if (left < 0) break
    begin -= 1
  }
  const recent = history.slice(begin)
  while (recent[0]?.role === 'assistant') recent.shift()
  return {
    messages: [
      { role: 'system', content: limits.systemPrompt },
      ...recent.map(({ role, content }) => ({ role, content })),
      { role: 'user', content: question },
    ],
    historyLength: recent.length,
  }
}
