/** The routes of the wire contract that the page uses. Whatever is not success is thrown as ApiError. */
import type { ChatRequest, Message, MessagePage, NumberedEvent, Page, Session } from '../lambdas/protocol.ts'
import { ApiError, errorFrom, plainFailure } from './failure.ts'
import type { Identity } from './identity.ts'
import { readEvents } from './sse.ts'

/** The server sends a comment at least every 15 s; three missed ones mean that the connection is dead. */
const SILENCE_LIMIT_MS = 45_000
const CONVERSATIONS_PER_PAGE = 30
const MESSAGES_PER_PAGE = 100

/** What the page asks; sent unchanged with every repetition under one idempotency key. */
export type Question = Pick<ChatRequest, 'message'> &
  Partial<Pick<ChatRequest, 'sessionId' | 'threadId' | 'channel' | 'parentMessageId' | 'locale'>>

export interface Reply {
  requestId: string | null
  /** Ends with the stream; throws where the connection breaks or falls silent. */
  events: AsyncGenerator<NumberedEvent>
}

export interface Api {
  conversations(cursor: string | null): Promise<Page<Session>>
  conversation(sessionId: string): Promise<Session>
  rename(sessionId: string, title: string): Promise<void>
  end(sessionId: string): Promise<void>
  /** All messages after a sequence number, of all branches, in order, however many pages they fill. */
  messages(sessionId: string, after?: number): Promise<Message[]>
  rate(messageId: string, score: number): Promise<void>
  ask(question: Question, key: string): Promise<Reply>
}

/** Passes bytes on, and breaks off where none come for a while. */
function guardSilence(abort: AbortController): TransformStream<Uint8Array, Uint8Array> {
  let timer: ReturnType<typeof setTimeout>
  const restart = (): void => {
    clearTimeout(timer)
    timer = setTimeout(() => abort.abort(), SILENCE_LIMIT_MS)
  }
  return new TransformStream({
    start: restart,
    transform(chunk, controller) {
      restart()
      controller.enqueue(chunk)
    },
    flush: () => clearTimeout(timer),
  })
}

async function* replyEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<NumberedEvent> {
  for await (const { id, data } of readEvents(body)) yield { id: Number(id), event: JSON.parse(data) }
}

export function createApi(identity: Identity): Api {
  async function request(method: string, path: string, init: RequestInit = {}): Promise<Response> {
    for (let attempt = 1; ; attempt += 1) {
      const token = await identity.token()
      const headers = { ...init.headers, authorization: `Bearer ${token}` }
      const response = await fetch(path, { ...init, method, headers }).catch(() => {
        throw new ApiError(0, plainFailure('unreachable'))
      })
      if (response.ok) return response
      const error = await errorFrom(response)
      if (response.status !== 401) throw error
      // A token that nobody typed is renewed once; somebody who pastes tokens may go on trying.
      const personIsAsked = identity.refuse(token)
      if (!personIsAsked && attempt > 1) throw error
    }
  }

  const send = (method: string, path: string, body: unknown, init: RequestInit = {}): Promise<Response> =>
    request(method, path, {
      ...init,
      headers: { ...init.headers, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })

  const get = async <T>(path: string, query: Record<string, string | number | null> = {}): Promise<T> => {
    const parameters = new URLSearchParams()
    for (const [name, value] of Object.entries(query)) if (value !== null) parameters.set(name, String(value))
    const response = await request('GET', parameters.size > 0 ? `${path}?${parameters}` : path)
    return (await response.json()) as T
  }

  return {
    conversations: (cursor) => get('/api/sessions', { limit: CONVERSATIONS_PER_PAGE, cursor }),
    conversation: (sessionId) => get(`/api/sessions/${sessionId}`),

    async rename(sessionId, title) {
      await send('PATCH', `/api/sessions/${sessionId}`, { title })
    },

    async end(sessionId) {
      await request('DELETE', `/api/sessions/${sessionId}`)
    },

    async messages(sessionId, after = 0) {
      const found: Message[] = []
      for (let from: number | null = after; from !== null; ) {
        const query = { threadId: 'main', after: from, limit: MESSAGES_PER_PAGE }
        const page: MessagePage = await get(`/api/sessions/${sessionId}/messages`, query)
        found.push(...page.items)
        from = page.nextAfter !== null && page.nextAfter > from ? page.nextAfter : null
      }
      return found
    },

    async rate(messageId, score) {
      await send('POST', `/api/messages/${messageId}/feedback`, { score })
    },

    async ask(question, key) {
      const abort = new AbortController()
      const response = await send('POST', '/api/chat/stream', question, {
        headers: { 'idempotency-key': key, accept: 'text/event-stream' },
        signal: abort.signal,
      })
      const body = response.body ?? new ReadableStream<Uint8Array>()
      return {
        requestId: response.headers.get('x-request-id'),
        events: replyEvents(body.pipeThrough(guardSilence(abort))),
      }
    },
  }
}
