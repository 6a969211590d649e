import { respondUsefully } from '../../local/model/brain.ts'
import type { Respond } from '../../local/model/script.ts'

/** Answers as usual, and as slowly as a question asks for: `길게 써 주세요 (20 ms)` has 20 ms between two tokens. */
export const atItsPace: Respond = (chat) => {
  const [, ms] = /\((\d+) ms\)/.exec(JSON.stringify(chat.messages.at(-1)?.content)) ?? []
  return { ...respondUsefully(chat), ...(ms !== undefined && { tokenDelayMs: Number(ms) }) }
}
