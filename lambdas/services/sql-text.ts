/**
 * Just enough of Postgres' lexical rules to know what in a text is SQL and what is quoted or commented out: where
 * one statement ends, and which `:name` is a parameter. https://www.postgresql.org/docs/current/sql-syntax-lexical.html
 * Assumes standard_conforming_strings, the default since 9.1. Something left open runs to the end of the text.
 */

type Kind = 'space' | 'comment' | 'quoted' | 'word' | 'colon' | 'symbol'
type Token = { kind: Kind; text: string }

// In the order in which they are tried: E'…' before words, because it is the only string in which a backslash hides a
// quote. Loops are unrolled, so that a long string costs the engine no backtracking.
const LEXEMES: Record<Kind, RegExp[]> = {
  space: [/\s+/],
  comment: [/--[^\n]*/, /\/\*/],
  quoted: [
    /[eE]'[^'\\]*(?:(?:''|\\[\s\S])[^'\\]*)*'?/,
    /'[^']*(?:''[^']*)*'?/,
    /"[^"]*(?:""[^"]*)*"?/,
    /\$(?:[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$/,
  ],
  word: [/[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*/, /\d[\w.]*/],
  colon: [/::|:=|:/],
  symbol: [/[\s\S]/],
}
const LEXEME = new RegExp(
  Object.values(LEXEMES)
    .map((forms) => `(${forms.map((form) => form.source).join('|')})`)
    .join('|'),
  'y',
)

const KINDS = Object.keys(LEXEMES) as Kind[]

function* tokensOf(sql: string): Generator<Token> {
  for (let at = 0; at < sql.length; ) {
    LEXEME.lastIndex = at
    const [lexeme, ...forms] = LEXEME.exec(sql) as RegExpExecArray
    const kind = KINDS[forms.findIndex((form) => form !== undefined)] as Kind
    const end = endOf(sql, at, lexeme)
    yield { kind, text: sql.slice(at, end) }
    at = end
  }
}

/** The two lexemes whose end no regular expression finds: comments nest, and a dollar quote ends at its own tag. */
function endOf(sql: string, start: number, lexeme: string): number {
  const bodyStart = start + lexeme.length
  if (lexeme === '/*') return endOfComment(sql, bodyStart)
  if (!/^\$.*\$$/.test(lexeme)) return bodyStart
  const close = sql.indexOf(lexeme, bodyStart)
  return close < 0 ? sql.length : close + lexeme.length
}

function endOfComment(sql: string, bodyStart: number): number {
  const edge = /\/\*|\*\//g
  edge.lastIndex = bodyStart
  for (let depth = 1, found = edge.exec(sql); found; found = edge.exec(sql)) {
    depth += found[0] === '/*' ? 1 : -1
    if (depth === 0) return edge.lastIndex
  }
  return sql.length
}

/**
 * The statements of a script, in order, without the semicolons between them; comments stay inside the statement
 * they precede, and what holds no SQL is dropped. Knows dollar quotes, `begin atomic … end` and parentheses, as psql
 * does. Meta-commands of psql and `copy … from stdin` data are not SQL and are not understood.
 */
export function splitStatements(sql: string): string[] {
  const statements: string[] = []
  let nesting = newNesting()
  let text = ''
  let hasCode = false
  for (const token of tokensOf(sql)) {
    if (token.text === ';' && nesting.isTopLevel()) {
      if (hasCode) statements.push(text.trim())
      text = ''
      hasCode = false
      nesting = newNesting()
      continue
    }
    text += token.text
    hasCode ||= token.kind !== 'space' && token.kind !== 'comment'
    nesting.see(token)
  }
  if (hasCode) statements.push(text.trim())
  return statements
}

/** The first word of a statement in lower case, which is what kind of statement it is; empty where there is none. */
export function firstWord(statement: string): string {
  for (const { kind, text } of tokensOf(statement)) if (kind === 'word') return text.toLowerCase()
  return ''
}

/** A statement's code, for looking at: lower case, single spaces, no comments, and nothing between quotes. */
export function codeOf(statement: string): string {
  let code = ''
  for (const { kind, text } of tokensOf(statement)) {
    if (kind === 'quoted') code += quotesOf(text).join('')
    else code += kind === 'space' || kind === 'comment' ? ' ' : text.toLowerCase()
  }
  return code.replace(/ +/g, ' ').trim()
}

/** What stands between quotes of any kind, in order, as it is written there. */
export function quotedIn(statement: string): string[] {
  return [...tokensOf(statement)]
    .filter(({ kind }) => kind === 'quoted')
    .map(({ text }) => {
      const [open, close] = quotesOf(text)
      return text.slice(open.length, text.length - close.length)
    })
}

function quotesOf(quoted: string): [string, string] {
  const [open = ''] = /^(?:[eE]?'|"|\$[^$]*\$)/.exec(quoted) ?? []
  return [open, open.replace(/^[eE]/, '')]
}

const ROUTINE_HEAD = /^create (or replace )?(function|procedure)$/

/** How deep a statement is in parentheses, or in the body of a routine that is written as plain SQL. */
function newNesting() {
  let parentheses = 0
  let blocks = 0
  let head = ''
  let isRoutine = false
  return {
    isTopLevel: () => parentheses === 0 && blocks === 0,
    see({ kind, text }: Token) {
      if (text === '(') parentheses++
      if (text === ')') parentheses = Math.max(0, parentheses - 1)
      if (kind !== 'word') return
      const word = text.toLowerCase()
      if (head.length < 'create or replace procedure'.length) {
        head = head ? `${head} ${word}` : word
        isRoutine ||= ROUTINE_HEAD.test(head)
      }
      if (!isRoutine || parentheses > 0) return
      if (word === 'begin' || (word === 'case' && blocks > 0)) blocks++
      if (word === 'end') blocks = Math.max(0, blocks - 1)
    },
  }
}

/**
 * Replaces every `:name` parameter by what `replacement` returns for its name, and nothing that is quoted or
 * commented out. `::type`, `:=` and slices are left alone: inside brackets a colon that touches what stands before
 * it, or that is followed by a number, is a slice (`a[1:2]`, `a[low:high]`); `a[:n]` is a parameter.
 */
export function bindNamed(sql: string, replacement: (name: string) => string): string {
  const tokens = [...tokensOf(sql)]
  let text = ''
  let brackets = 0
  for (const [index, token] of tokens.entries()) {
    if (token.text === '[') brackets++
    if (token.text === ']') brackets--
    const isName = isParameter(tokens, index - 1, brackets > 0)
    if (isName) text += replacement(token.text)
    else if (!isParameter(tokens, index, brackets > 0)) text += token.text
  }
  return text
}

/** Whether the token at `index` is the colon of a parameter. */
function isParameter(tokens: Token[], index: number, inBrackets: boolean): boolean {
  const name = tokens[index + 1]
  if (tokens[index]?.text !== ':' || name?.kind !== 'word') return false
  return !(inBrackets && (isOperand(tokens[index - 1]) || /^\d/.test(name.text)))
}

const isOperand = (token: Token | undefined) =>
  token !== undefined &&
  (token.kind === 'word' || token.kind === 'quoted' || token.text === ')' || token.text === ']')
