/** Text for a terminal. What clients chose, as names of tenants, must neither move the cursor nor break a table. */

const WIDE =
  /\p{Script=Hangul}|\p{Script=Han}|\p{Script=Hiragana}|\p{Script=Katakana}|\p{Emoji_Presentation}|[\u3000-\u303e\uff01-\uff60\uffe0-\uffe6]/u
// Control characters, line ends, and what turns the direction of writing.
const UNPRINTABLE = /[\p{Cc}\p{Cs}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu
const graphemes = new Intl.Segmenter()

export const printable = (text: string): string =>
  text.replace(UNPRINTABLE, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`)

/** Columns of a terminal: two for a Korean syllable, also one that is made of several code points. */
const widthOf = (text: string): number =>
  [...graphemes.segment(text)].reduce((width, { segment }) => width + (WIDE.test(segment) ? 2 : 1), 0)

/** Not console.table: it adds an index and puts quotes around every text. */
export function table(rows: readonly Record<string, string>[]): string {
  const columns = Object.keys(rows[0] ?? {})
  const lines = [columns, ...rows.map((row) => columns.map((column) => printable(row[column] ?? '')))]
  const widths = columns.map((_, index) => Math.max(...lines.map((line) => widthOf(line[index] ?? ''))))
  const pad = (cell: string, index: number) => cell + ' '.repeat((widths[index] ?? 0) - widthOf(cell))
  return lines.map((line) => line.map(pad).join('  ').trimEnd()).join('\n')
}

/** 2026-11-20 11:09:03Z */
export const time = (milliseconds: number): string =>
  `${new Date(milliseconds).toISOString().slice(0, 19).replace('T', ' ')}Z`

export const count = (number: number, noun: string): string => `${number} ${noun}${number === 1 ? '' : 's'}`

const SPANS = [
  ['d', 86_400],
  ['h', 3_600],
  ['min', 60],
] as const

/** 12 s, 5 min, 3 h, 2 d: as exact as one looks at it. */
export function span(seconds: number): string {
  for (const [unit, size] of SPANS) if (seconds >= 2 * size) return `${Math.round(seconds / size)} ${unit}`
  return `${rounded(seconds)} s`
}

const SIZES = ['bytes', 'KB', 'MB', 'GB', 'TB']

export function size(bytes: number): string {
  const power = Math.min(Math.max(Math.floor(Math.log10(Math.max(bytes, 1)) / 3), 0), SIZES.length - 1)
  return `${rounded(bytes / 1_000 ** power)} ${SIZES[power]}`
}

/** 1,234; 87.4; 0.25: three digits that count, and whole numbers whole. */
export function rounded(value: number): string {
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2
  return value.toLocaleString('en-US', { maximumFractionDigits: digits })
}
