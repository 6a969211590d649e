/** Texts. Those of random letters do not compress, as little as any text does. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

export type Alphabet = 'Latin' | 'half Hangul' | 'Hangul' | 'Korean prose'

const FIRST_SYLLABLE = 0xac00
const SYLLABLES = 11_172
const FIRST_LETTER = 97
const LETTERS = 26
/** Of what is no space, so much is Hangul. */
const HANGUL = { Latin: 0, 'half Hangul': 0.5, Hangul: 1 }
const SPACES = 0.2

const below = (count: number): number => Math.floor(Math.random() * count)

let prose: string | undefined
/** Some of what people read about this product. */
function excerpt(characters: number): string {
  prose ??= readFileSync(join(import.meta.dirname, '../README.ko.md'), 'utf8')
  const from = below(prose.length - characters)
  return prose.slice(from, from + characters)
}

export function textOf(characters: number, alphabet: Alphabet): string {
  if (alphabet === 'Korean prose') return excerpt(characters)
  const share = HANGUL[alphabet]
  return Array.from({ length: characters }, () => {
    if (Math.random() < SPACES) return ' '
    return Math.random() < share
      ? String.fromCharCode(FIRST_SYLLABLE + below(SYLLABLES))
      : String.fromCharCode(FIRST_LETTER + below(LETTERS))
  }).join('')
}
