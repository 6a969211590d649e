/** Rows for a terminal or for Markdown; what looks like a number stands at the right. */

export type Rows = readonly Record<string, string>[]

const IS_NUMBER = /^[-–]?[\d,.]+( ?%)?$/

export function table(rows: Rows): string {
  const { columns, cells, widths, isNumber } = measure(rows)
  const line = (texts: string[]) =>
    texts
      .map((text, at) => (isNumber[at] ? text.padStart(widths[at] ?? 0) : text.padEnd(widths[at] ?? 0)))
      .join('  ')
      .trimEnd()
  return [line(columns), ...cells.map(line)].join('\n')
}

export function markdownTable(rows: Rows): string {
  const { columns, cells, isNumber } = measure(rows)
  const line = (texts: string[]) => `| ${texts.join(' | ')} |`
  return [
    line(columns),
    `|${isNumber.map((right) => (right ? '---:' : '---')).join('|')}|`,
    ...cells.map(line),
  ].join('\n')
}

function measure(rows: Rows) {
  const columns = Object.keys(rows[0] ?? {})
  const cells = rows.map((row) => columns.map((column) => row[column] ?? ''))
  return {
    columns,
    cells,
    widths: columns.map((column, at) => Math.max(column.length, ...cells.map((row) => row[at]?.length ?? 0))),
    isNumber: columns.map((_, at) => cells.every((row) => row[at] === '' || IS_NUMBER.test(row[at] ?? ''))),
  }
}

/** With commas, and as many digits as still say something. */
export function amount(value: number): string {
  const digits =
    value === 0 || Math.abs(value) >= 100
      ? 0
      : Math.abs(value) >= 1
        ? 2
        : Math.min(6, 2 - Math.floor(Math.log10(Math.abs(value))))
  return value.toLocaleString('en-US', { minimumFractionDigits: 0, maximumFractionDigits: digits })
}

export const usd = (value: number): string =>
  value.toLocaleString('en-US', { minimumFractionDigits: 2, maximumFractionDigits: 2 })

/**
 * A document with its tables made anew, between `<!-- table: name -->` and `<!-- end -->`. Refuses a marker that names none;
 * `file` is for saying so.
 */
export const withTablesMade = (
  file: string,
  document: string,
  make: (name: string) => string | undefined,
): string =>
  document.replace(/(<!-- table: (.+?) -->\n)[\s\S]*?(<!-- end -->)/g, (_, start, name, end) => {
    const table = make(name)
    if (table === undefined) throw new Error(`${file} asks for a table ${name}.`)
    return `${start}\n${table}\n\n${end}`
  })
