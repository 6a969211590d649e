/**
 * Markdown as a list of blocks of tokens, for components to draw. No HTML text is made anywhere: markup in an
 * answer can only ever be text.
 */
import MarkdownIt, { type Token } from 'markdown-it'

/** A top-level block: a paragraph, a list, a table, a piece of code. */
export interface Block {
  /** The lines it was made from; while they stay the same, so does the block. */
  source: string
  tokens: Token[]
}

const markdown = MarkdownIt({ html: false, linkify: true, breaks: true })

/** Only addresses that lead out of the page and run nothing; a relative one would lead into our own origin. */
markdown.validateLink = (url) => /^(?:https?:\/\/|mailto:)/i.test(url)
// Without a scheme, "main.ts" or "결과.net" would become links.
markdown.linkify.set({ fuzzyLink: false, fuzzyEmail: false })

const ASTERISK = 0x2a
const isHangul = (character: string | undefined): boolean =>
  character !== undefined && /^[가-힣]$/.test(character)
const isPunctuation = (character: string | undefined): boolean =>
  character !== undefined && /^[\p{P}\p{S}]$/u.test(character)

/**
 * CommonMark takes a word's end for granted where a space is. Korean particles follow without one, so that
 * `**배송비(무료)**는` would stay unformatted: next to Hangul, punctuation inside the asterisks is no obstacle.
 */
markdown.inline.State = class extends markdown.inline.State {
  override scanDelims(start: number, canSplitWord: boolean) {
    const found = super.scanDelims(start, canSplitWord)
    if (this.src.charCodeAt(start) !== ASTERISK) return found
    const before = this.src[start - 1]
    const after = this.src[start + found.length]
    return {
      ...found,
      can_open: found.can_open || (isHangul(before) && isPunctuation(after)),
      can_close: found.can_close || (isPunctuation(before) && isHangul(after)),
    }
  }
}

/** The blocks of a text, which may still be growing: what is not closed yet is taken to end where it ends. */
export function blocksOf(text: string): Block[] {
  const lines = text.split(/\r\n?|\n/)
  const blocks: Block[] = []
  let open: Token[] = []
  for (const token of markdown.parse(text, {})) {
    open.push(token)
    if (token.level > 0 || token.nesting === 1) continue
    const [from, to] = open[0]?.map ?? [0, lines.length]
    blocks.push({ source: lines.slice(from, to).join('\n'), tokens: open })
    open = []
  }
  return blocks
}

/** A block as words only, for those who listen. */
export const spokenText = ({ tokens }: Block): string =>
  tokens
    .map(({ children, content }) => children?.map(wordsOf).join('') ?? content)
    .filter((part) => part !== '')
    .join(' ')

const wordsOf = ({ type, content }: Token): string =>
  type === 'softbreak' || type === 'hardbreak' ? ' ' : content

/** `https://example.com/배송` is an address; in `https://example.com/docs를` the last letter is grammar. */
export function withoutParticle(address: string): [address: string, particle: string] {
  const match = /^([\x21-\x7e]*[a-z0-9])([가-힣]{1,5}[.,]?)$/i.exec(address)
  return match === null ? [address, ''] : [match[1] ?? '', match[2] ?? '']
}
