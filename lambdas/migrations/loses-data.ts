/**
 * Whether a statement of a migration takes away what users have stored. It looks at the text alone: what a function
 * does that a migration calls is not seen. What it does not know to be harmless, of all that drops, loses data.
 */

/** The one lexer of SQL, which is a service. */
export interface SqlText {
  splitStatements(sql: string): string[]
  codeOf(statement: string): string
  quotedIn(statement: string): string[]
}

/** These change no row and no column now, whatever words they hold. */
const HARMLESS =
  /^(grant|revoke|comment|create (policy|(or replace )?(function|procedure|(constraint )?trigger|rule|view)))\b/

/** All of these can be made again from code. */
const DROP_OF_CODE =
  'index|function|procedure|routine|aggregate|trigger|policy|rule|view|statistics|constraint|not null|default|identity|expression'

const LOSSES = [
  new RegExp(`\\bdrop (?!(${DROP_OF_CODE})\\b)`),
  // What depends on a thing may be a column or a table.
  /\bdrop\b.* cascade\b/,
  // The word COLUMN may be left out, and a column may be called index.
  /\balter (foreign )?table\b.* drop (?!(constraint|not null|default|identity|expression)\b)/,
  /\balter (column )?\S+ (set data )?type\b/,
  /\b(drop|alter) attribute\b/,
  /\bset (unlogged|expression)\b/,
  /\bdetach partition\b/,
  /\btruncate\b/,
  /\bdelete from\b/,
  /\bmerge into\b/,
  // Also what fills a new column: only its author knows that it is new.
  /\bupdate (only )?\S+ ((as )?\w+ )?set\b/,
  /\bdo update\b/,
]

/** `-- loses data: <reason>`, in the comment that stands directly above the statement. */
const REASON = /^-- loses data: \S/m

/** The statements, shortened, that lose data and do not say why. */
export function unexplainedLosses(script: string, sql: SqlText): string[] {
  return sql
    .splitStatements(script)
    .filter((statement) => !REASON.test(commentAbove(statement)) && losesData(statement, sql))
    .map((statement) => shorten(sql.codeOf(statement)))
}

export function losesData(statement: string, sql: SqlText): boolean {
  const code = sql.codeOf(statement)
  if (HARMLESS.test(code)) return false
  if (LOSSES.some((loss) => loss.test(code))) return true
  // The body of a block runs now, and so does what it builds as text.
  return /^do\b/.test(code) && textsIn(statement, sql).some((text) => LOSSES.some((loss) => loss.test(text)))
}

function textsIn(statement: string, sql: SqlText): string[] {
  return sql.quotedIn(statement).flatMap((text) => [sql.codeOf(text), ...textsIn(text, sql)])
}

function commentAbove(statement: string): string {
  const [lead = ''] = /^(?:\s+|--[^\n]*|\/\*[\s\S]*?\*\/)*/.exec(statement) ?? []
  return lead.split(/\n[ \t]*\n/).at(-1) ?? ''
}

const SHOWN_CHARACTERS = 100
const shorten = (code: string): string =>
  code.length > SHOWN_CHARACTERS ? `${code.slice(0, SHOWN_CHARACTERS)}…` : code
