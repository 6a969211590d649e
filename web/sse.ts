/** Server-sent events out of a fetch body, by the rules of the HTML standard. */

export interface ServerSentEvent {
  /** The last `id:` seen so far; it carries over to events without one. */
  id: string
  data: string
}

/** Complete lines out of text that arrives in pieces; CR, LF and CRLF end a line, also across pieces. */
async function* linesOf(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder()
  const reader = body.getReader()
  let rest = ''
  let afterCarriageReturn = false
  try {
    for (;;) {
      const { done, value } = await reader.read()
      let text = done ? decoder.decode() : decoder.decode(value, { stream: true })
      if (afterCarriageReturn && text !== '') {
        if (text.startsWith('\n')) text = text.slice(1)
        afterCarriageReturn = false
      }
      if (text.endsWith('\r')) afterCarriageReturn = true
      const lines = (rest + text).split(/\r\n|\r|\n/)
      rest = lines.pop() ?? ''
      yield* lines
      // What stands after the last line end is no complete line: the standard drops it.
      if (done) return
    }
  } finally {
    reader.cancel().catch(() => undefined)
  }
}

/**
 * Yields each event as it is complete. Comments and unknown fields are skipped; an event that the end of the
 * stream cuts off is dropped. Leaving the loop early cancels the body.
 */
export async function* readEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<ServerSentEvent> {
  let id = ''
  let data: string[] = []
  for await (const line of linesOf(body)) {
    if (line === '') {
      if (data.length > 0) yield { id, data: data.join('\n') }
      data = []
      continue
    }
    const colon = line.indexOf(':')
    const field = colon === -1 ? line : line.slice(0, colon)
    const raw = colon === -1 ? '' : line.slice(colon + 1)
    const value = raw.startsWith(' ') ? raw.slice(1) : raw
    if (field === 'data') data.push(value)
    else if (field === 'id' && !value.includes('\0')) id = value
  }
}
