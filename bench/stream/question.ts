/** A question that says what its answer is like, so that every subject is asked the same. */

export interface Wanted {
  tokens: number
  /** Before each token; 0: as fast as they can be made. */
  tokenMs: number
}

export const questionOf = ({ tokens, tokenMs }: Wanted): string =>
  `안녕하세요, 어제 주문한 제품은 언제 도착하나요? When will my parcel be here? [${tokens} tokens, ${tokenMs} ms]`

export function readQuestion(text: string): Wanted {
  const [, tokens = '1', tokenMs = '0'] = /\[(\d+) tokens, (\d+) ms\]$/.exec(text) ?? []
  return { tokens: Number(tokens), tokenMs: Number(tokenMs) }
}
