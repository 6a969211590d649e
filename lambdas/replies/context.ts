/** What the model is given: the system prompt, as much recent history as fits, and the question. */

import type { ModelMessage } from '../services/chat-model.ts'
import type { HistoryMessage } from '../services/hot-store.ts'

/**
 * An estimate, not a tokenizer: a tokenizer belongs to one model and weighs more than this whole function. English
 * runs at about 4 characters a token, Korean and other scripts at about 1, so this errs on the large side.
 */
export function estimateTokens(text: string): number {
  let ascii = 0
  let other = 0
  for (const character of text) {
    if ((character.codePointAt(0) ?? 0) < 0x80) ascii += 1
    else other += 1
  }
  return Math.ceil(ascii / 4) + other
}

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
