/** What a text may be, and how long it is. */

/** Code points, not UTF-16 units, so that an emoji counts as one character in every client language. */
export const MAX_MESSAGE_CHARACTERS = 100_000

/** Postgres text cannot hold NUL, and UTF-8 cannot hold half of a surrogate pair. */
export const isStorableText = (text: string): boolean => !text.includes('\0') && text.isWellFormed()

/** Counts code points without building an array of them. */
export function countCharacters(text: string): number {
  let count = text.length
  for (let index = 0; index < text.length; index += 1) {
    const unit = text.charCodeAt(index)
    if (unit >= 0xd800 && unit <= 0xdbff) count -= 1
  }
  return count
}

/**
 * An estimate, not a tokenizer: a tokenizer belongs to one model and weighs more than a whole function. English
 * runs at about 4 characters a token, Korean and other scripts at about 1, so this errs on the large side.
 */
export function estimateTokens(text: string): number {
  let ascii = 0
  for (let index = 0; index < text.length; index += 1) if (text.charCodeAt(index) < 0x80) ascii += 1
  return Math.ceil(ascii / 4) + countCharacters(text) - ascii
}
