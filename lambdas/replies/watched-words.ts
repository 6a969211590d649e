/** Words that users write when something is broken. */

/** Hangul may come composed or in its parts; both look the same to whoever reads it. */
const folded = (text: string): string => text.normalize('NFC').toLowerCase()

/** Whether a text holds one of the words, anywhere in it: Korean puts its particles right behind them. */
export function holdsOneOf(words: readonly string[]): (text: string) => boolean {
  const wanted = words.map(folded)
  return (text) => {
    if (wanted.length === 0) return false
    const whole = folded(text)
    return wanted.some((word) => whole.includes(word))
  }
}
