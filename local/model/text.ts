/** A word with the space before it, at most 16 characters of it, or the space that ends a text. */
const PIECE = /\s*\S{1,16}|\s+$/gu

/** What is streamed at a time; joined, the pieces are the text. */
export function splitIntoPieces(text: string): string[] {
  return text.match(PIECE) ?? []
}

/** One token a piece: not any real tokenizer's rule, but the same for prompts, answers and limits. */
export function countTokens(text: string): number {
  return splitIntoPieces(text).length
}
