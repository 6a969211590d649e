/** A question that says what its answer is like, so that every subject is asked the same. */

/** Between two tokens of the model, and before its first one: less than any real model takes for that. */
export const TOKEN_MS = 20
/** Before the first one, as of a model that is quick. What is done beside the model costs no time here. */
export const THINKING_MS = 200

export interface Wanted {
  tokens: number
  /** Before each token; 0: as fast as they can be made. */
  tokenMs: number
  /** Before the first one; absent: as before any other. */
  firstMs?: number
}

export const questionOf = ({ tokens, tokenMs, firstMs = tokenMs }: Wanted): string =>
  `안녕하세요, 어제 주문한 제품은 언제 도착하나요? When will my parcel be here? [${tokens} tokens, ${tokenMs} ms, first ${firstMs} ms]`

export function readQuestion(text: string): Required<Wanted> {
  const [, tokens = '1', tokenMs = '0', firstMs = '0'] =
    /\[(\d+) tokens, (\d+) ms, first (\d+) ms\]$/.exec(text) ?? []
  return { tokens: Number(tokens), tokenMs: Number(tokenMs), firstMs: Number(firstMs) }
}
