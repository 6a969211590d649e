/** A client of the wire contract that trusts nothing: it notes when things came, and says what is not as promised. */
import type { NumberedEvent, ReplyEvent } from '../../lambdas/protocol/chat.ts'
import type { ErrorBody } from '../../lambdas/protocol/errors.ts'
import { Failure } from '../failures.ts'

/** The environment did something that the contract does not allow. Its words are for whoever deployed it. */
export class Unexpected extends Error {}

/** Nothing speaks HTTP at the address. */
export class Unreachable extends Failure {}

export interface Answer<Body> {
  status: number
  headers: Headers
  body: Body
}

export interface Arrived extends NumberedEvent {
  /** Milliseconds after the request. */
  atMs: number
}

export interface Reply {
  messageId: string
  session: Extract<ReplyEvent, { type: 'session' }>
  events: Arrived[]
  /** Undefined where the stream was left or cut before its end. */
  terminal: Extract<ReplyEvent, { type: 'done' | 'error' }> | undefined
  /** The tokens, joined. */
  text: string
  /** In how many reads from the network the tokens came. */
  tokenReads: number
}

export interface RequestOptions {
  body?: unknown
  headers?: Record<string, string>
  /** Without the token. */
  anonymous?: boolean
}

export interface StreamOptions extends RequestOptions {
  /** Called with each event, in order; `leave` drops the connection, as a client does that loses it. */
  onEvent?: (event: Arrived, leave: () => void) => void
}

export interface Client {
  /** Whatever the status is. The body is what JSON says, or the text where it is none. */
  call<Body = unknown>(method: string, path: string, options?: RequestOptions): Promise<Answer<Body>>
  /** The events up to the end. Throws Unexpected where the answer is no stream of events numbered without a gap. */
  stream(method: string, path: string, options?: StreamOptions): Promise<Arrived[]>
  /** A stream from its first event on. */
  ask(chat: object, options?: StreamOptions): Promise<Reply>
}

/** `signal` is asked for anew at each request, so that whoever runs the checks can give each its own limit. */
export function openClient(origin: string, token: string, signal: () => AbortSignal): Client {
  const request = async (method: string, path: string, options: RequestOptions, leave?: AbortSignal) => {
    const { body, headers = {}, anonymous = false } = options
    return fetch(new URL(path, origin), {
      method,
      signal: leave ? AbortSignal.any([leave, signal()]) : signal(),
      headers: {
        ...(anonymous ? {} : { authorization: `Bearer ${token}` }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    }).catch((error) => {
      throw explained(error, origin)
    })
  }

  const client: Client = {
    async call(method, path, options = {}) {
      const response = await request(method, path, options)
      const body = asJson(await response.text()) as never
      return { status: response.status, headers: response.headers, body }
    },
    async stream(method, path, { onEvent, ...options } = {}) {
      const left = new AbortController()
      const startedAt = performance.now()
      const response = await request(method, path, options, left.signal)
      await requireEventStream(response)
      const events: Arrived[] = []
      try {
        for await (const batch of readEvents(response)) {
          const atMs = performance.now() - startedAt
          for (const numbered of batch) {
            const event = { ...numbered, atMs }
            requireNext(event, events.at(-1))
            events.push(event)
            onEvent?.(event, () => left.abort())
          }
        }
      } catch (error) {
        if (!left.signal.aborted) throw explained(error, origin)
      }
      return events
    },
    ask: async (chat, options) =>
      replyOf(await client.stream('POST', '/api/chat/stream', { body: chat, ...options })),
  }
  return client
}

export function replyOf(events: Arrived[]): Reply {
  const [first] = events
  if (first?.event.type !== 'session' || first.id !== 0)
    throw new Unexpected(
      `the first event is ${first ? `${first.event.type}, id ${first.id}` : 'missing'}, not session, id 0`,
    )
  const last = events.at(-1)?.event
  return {
    messageId: first.event.messageId,
    session: first.event,
    events,
    terminal: last?.type === 'done' || last?.type === 'error' ? last : undefined,
    text: textOf(events),
    tokenReads: new Set(events.filter(({ event }) => event.type === 'token').map(({ atMs }) => atMs)).size,
  }
}

export const textOf = (events: readonly NumberedEvent[]): string =>
  events.map(({ event }) => (event.type === 'token' ? event.content : '')).join('')

/** `404 not_found`, or what there is instead of a code. */
export function described({ status, body }: Pick<Answer<unknown>, 'status' | 'body'>): string {
  const code = (body as Partial<ErrorBody> | undefined)?.error?.code
  return `${status} ${code ?? (typeof body === 'string' ? shortened(body) : '')}`.trim()
}

const MAX_QUOTED_CHARACTERS = 60
const shortened = (text: string): string =>
  text.length > MAX_QUOTED_CHARACTERS ? `${text.slice(0, MAX_QUOTED_CHARACTERS)}…` : text

function asJson(text: string): unknown {
  try {
    return text === '' ? undefined : JSON.parse(text)
  } catch {
    return text
  }
}

/** Errors of the network in words; others as they are. */
function explained(error: unknown, origin: string): unknown {
  if (!(error instanceof Error) || error instanceof Unexpected) return error
  if (error.name === 'TimeoutError') return new Unexpected('it took too long')
  const { code, message } = (error.cause ?? error) as NodeJS.ErrnoException
  if (error.name !== 'TypeError') return error
  if (error.message === 'terminated')
    return new Unexpected('the connection broke before the stream had ended')
  return new Unreachable(`Nothing answers at ${origin} (${code ?? message}).`, { cause: error })
}

async function requireEventStream(response: Response): Promise<void> {
  const type = response.headers.get('content-type') ?? 'no content-type'
  if (response.status === 200 && type.startsWith('text/event-stream')) {
    const cached = response.headers.get('cache-control')
    if (cached !== 'no-store') throw new Unexpected(`cache-control is ${cached}, not no-store`)
    return
  }
  const body = asJson(await response.text())
  throw new Unexpected(
    `answered ${described({ status: response.status, body })} (${type}) instead of a stream`,
  )
}

function requireNext({ id }: Arrived, before: Arrived | undefined): void {
  if (before !== undefined && id !== before.id + 1)
    throw new Unexpected(`event ${id} came after event ${before.id}`)
}

/** What came together, event by event: one list for each read from the network that completed one. */
async function* readEvents(response: Response): AsyncGenerator<NumberedEvent[], void> {
  let text = ''
  for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
    const blocks = (text + chunk).split('\n\n')
    text = blocks.pop() ?? ''
    const events = blocks.filter((block) => !block.startsWith(':')).map(parseEvent)
    if (events.length > 0) yield events
  }
  if (text !== '') throw new Unexpected('the stream ended in the middle of an event')
}

function parseEvent(block: string): NumberedEvent {
  const [, id, data = ''] = /^id: (\d+)\ndata: (.*)$/.exec(block) ?? []
  const event = asJson(data)
  if (id === undefined || typeof event !== 'object' || event === null || !('type' in event))
    throw new Unexpected(`this is no event: ${shortened(block)}`)
  return { id: Number(id), event: event as ReplyEvent }
}
