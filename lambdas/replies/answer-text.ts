/**
 * The text of an answer as it grows. What cannot be stored (NUL, half of a surrogate pair) becomes U+FFFD before
 * anybody sees it, so that what a client joins from its tokens is what is saved, character for character.
 */
export interface AnswerText {
  /** What of this piece may be sent now; a first half of a pair waits for the second. */
  add(piece: string): string
  /** What was still waiting. */
  end(): string
  /** All that was given out so far. */
  readonly text: string
}

const isHighSurrogate = (unit: number): boolean => unit >= 0xd800 && unit <= 0xdbff
const storable = (text: string): string => text.toWellFormed().replaceAll('\0', '\uFFFD')

export function answerText(): AnswerText {
  let text = ''
  let held = ''
  const give = (piece: string): string => {
    const clean = storable(piece)
    text += clean
    return clean
  }
  return {
    add(piece) {
      const all = held + piece
      held = isHighSurrogate(all.charCodeAt(all.length - 1)) ? all.slice(-1) : ''
      return give(held === '' ? all : all.slice(0, -1))
    },
    end() {
      const rest = held
      held = ''
      return give(rest)
    },
    get text() {
      return text
    },
  }
}
