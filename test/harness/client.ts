/** A client of the wire contract, as small as one can be: fetch and a parser of server-sent events. */
import type { NumberedEvent, ReplyEvent } from '../../lambdas/protocol/chat.ts'
import type { ErrorBody } from '../../lambdas/protocol/errors.ts'
import type { Message, MessagePage } from '../../lambdas/protocol/messages.ts'

export interface Identity {
  companyId: string
  platform: string
  userId: string
  role: 'user' | 'agent' | 'admin'
}

export interface Reply {
  status: number
  events: NumberedEvent[]
  /** Set where the answer was an HTTP error. */
  error: ErrorBody['error'] | undefined
  /** The tokens, joined. */
  text: string
  /** The last event, done or error; undefined where the stream was cut before. */
  terminal: Extract<ReplyEvent, { type: 'done' | 'error' }> | undefined
  session: Extract<ReplyEvent, { type: 'session' }> | undefined
}

export interface StreamOptions {
  headers?: Record<string, string>
  /** Called with each event as it arrives, and all so far; returning true cuts the connection. */
  onEvent?: (event: NumberedEvent, soFar: NumberedEvent[]) => boolean | Promise<boolean>
  signal?: AbortSignal
}

export interface ApiClient {
  token: Promise<string>
  fetch(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Response>
  /** JSON in, JSON out. */
  call<Body = Record<string, unknown>>(
    method: string,
    path: string,
    body?: unknown,
    headers?: Record<string, string>,
  ): Promise<{ status: number; body: Body; headers: Headers }>
  /** Streams a reply to its end, or until it is cut. */
  ask(chat: Record<string, unknown> | string, options?: StreamOptions): Promise<Reply>
  stream(method: string, path: string, body?: unknown, options?: StreamOptions): Promise<Reply>
  /** All messages of a session, paged through. */
  messages(sessionId: string, query?: string): Promise<Message[]>
}

export function clientOf(address: string, identity: Identity): ApiClient {
  const token = fetch(`${address}/dev/token`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(identity),
  }).then(async (response) => ((await response.json()) as { token: string }).token)

  const request = async (
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
    signal?: AbortSignal,
  ) =>
    fetch(`${address}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${await token}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
      ...(signal ? { signal } : {}),
    })

  const client: ApiClient = {
    token,
    fetch: (method, path, body, headers) => request(method, path, body, headers),
    async call(method, path, body, headers) {
      const response = await request(method, path, body, headers)
      const text = await response.text()
      return {
        status: response.status,
        body: text === '' ? undefined : JSON.parse(text),
        headers: response.headers,
      }
    },
    ask: (chat, options) =>
      client.stream('POST', '/api/chat/stream', typeof chat === 'string' ? { message: chat } : chat, options),
    async stream(method, path, body, { headers, onEvent, signal } = {}) {
      const cut = new AbortController()
      const both = signal ? AbortSignal.any([cut.signal, signal]) : cut.signal
      const response = await request(method, path, body, headers, both)
      if (!response.headers.get('content-type')?.startsWith('text/event-stream')) {
        const text = await response.text()
        const error = text === '' ? undefined : (JSON.parse(text) as ErrorBody).error
        return {
          status: response.status,
          events: [],
          error,
          text: '',
          terminal: undefined,
          session: undefined,
        }
      }
      const events: NumberedEvent[] = []
      try {
        for await (const event of parse(response)) {
          events.push(event)
          if (await onEvent?.(event, events)) cut.abort()
        }
      } catch (error) {
        if (!(error instanceof Error)) throw error // A cut connection, ours or theirs: what came is what there is.
      }
      return { status: response.status, error: undefined, ...summary(events) }
    },
    async messages(sessionId, query = '') {
      const items: Message[] = []
      let after = ''
      for (;;) {
        const page = await client.call<MessagePage>(
          'GET',
          `/api/sessions/${sessionId}/messages?limit=100${query}${after}`,
        )
        if (page.status !== 200) throw new Error(`messages answered ${page.status}`)
        items.push(...page.body.items)
        if (page.body.nextAfter === null) return items
        after = `&after=${page.body.nextAfter}`
      }
    },
  }
  return client
}

export function summary(events: NumberedEvent[]) {
  const last = events.at(-1)?.event
  const session = events[0]?.event
  return {
    events,
    text: events.map(({ event }) => (event.type === 'token' ? event.content : '')).join(''),
    terminal: last?.type === 'done' || last?.type === 'error' ? last : undefined,
    session: session?.type === 'session' ? session : undefined,
  }
}

async function* parse(response: Response): AsyncGenerator<NumberedEvent> {
  if (response.body === null) return
  let text = ''
  for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
    text += chunk
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const block = text.slice(0, end)
      text = text.slice(end + 2)
      if (block.startsWith(':')) continue
      const match = /^id: (\d+)\ndata: (.*)$/.exec(block)
      if (match === null) throw new Error(`not an event: ${block}`)
      yield { id: Number(match[1]), event: JSON.parse(match[2] ?? '') as ReplyEvent }
    }
  }
}
