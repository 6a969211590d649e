/** The routes of the wire contract that the page uses. Whatever is not success is thrown as ApiError. */
import type { ChatRequest, NumberedEvent } from '../lambdas/protocol/chat.ts'
import type { Page } from '../lambdas/protocol/lists.ts'
import type { Message, MessagePage } from '../lambdas/protocol/messages.ts'
import type { UserAnswer } from '../lambdas/protocol/rights.ts'
import type { Session } from '../lambdas/protocol/sessions.ts'
import { ApiError, errorFrom, plainFailure } from './failure.ts'
import type { Identity } from './identity.ts'
import { watchConnection } from './network.ts'
import { readEvents } from './sse.ts'

/** For an answer to begin, with a function that starts cold and a database that wakes up (20 s). */
const REQUEST_LIMIT_MS = 45_000
const CONVERSATIONS_PER_PAGE = 30
const MESSAGES_PER_PAGE = 100
const NO_CONTENT = 204

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
  /** A new answer to the question of this answer, or to this question. */
  regenerate(messageId: string): Promise<Reply>
  /** The events after one, from the server's log, and live while it is written; null: there are no more. */
  resume(messageId: string, after: number): Promise<Reply | null>
  /** Resolves when the server knows; the answer's own stream tells of its end. */
  stop(messageId: string): Promise<void>
  /** What is kept of whoever asks, and how the newest export and erasure stand. */
  yourData(): Promise<UserAnswer>
  exportData(userId: string): Promise<void>
  eraseData(userId: string): Promise<void>
}

/** The events of a body, which breaks off where the connection seems dead. */
async function* replyEvents(
  body: ReadableStream<Uint8Array>,
  abort: AbortController,
): AsyncGenerator<NumberedEvent> {
  const connection = watchConnection(() => abort.abort())
  const watched = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      connection.isAlive()
      controller.enqueue(chunk)
    },
  })
  try {
    for await (const { id, data } of readEvents(body.pipeThrough(watched)))
      yield { id: Number(id), event: JSON.parse(data) }
  } finally {
    connection.leave()
  }
}

export function createApi(identity: Identity): Api {
  /** The controller bounds the wait for an answer and may then end it; without one the answer is bounded whole. */
  async function request(
    method: string,
    path: string,
    init: RequestInit = {},
    abort?: AbortController,
  ): Promise<Response> {
    for (let attempt = 1; ; attempt += 1) {
      const token = await identity.token()
      const headers = { ...init.headers, authorization: `Bearer ${token}` }
      const signal = abort?.signal ?? AbortSignal.timeout(REQUEST_LIMIT_MS)
      const limit = setTimeout(() => abort?.abort(), REQUEST_LIMIT_MS)
      // Nothing here is kept; and Chrome would make a stop wait for its cache while the same address is being read.
      const response = await fetch(path, { ...init, method, headers, signal, cache: 'no-store' })
        .catch(() => {
          throw new ApiError(0, plainFailure('unreachable'))
        })
        .finally(() => clearTimeout(limit))
      if (response.ok) return response
      const error = await errorFrom(response)
      if (response.status !== 401) throw error
      // A token that nobody typed is renewed once; somebody who pastes tokens may go on trying.
      const personIsAsked = identity.refuse(token)
      if (!personIsAsked && attempt > 1) throw error
    }
  }

  const json = (body: unknown): { body: string; headers: Record<string, string> } => ({
    body: JSON.stringify(body),
    headers: { 'content-type': 'application/json' },
  })

  const send = (method: string, path: string, body: unknown): Promise<Response> =>
    request(method, path, json(body))

  async function stream(method: string, path: string, init: RequestInit = {}): Promise<Reply | null> {
    const abort = new AbortController()
    const headers = { ...init.headers, accept: 'text/event-stream' }
    const response = await request(method, path, { ...init, headers }, abort)
    if (response.status === NO_CONTENT) return null
    return {
      requestId: response.headers.get('x-request-id'),
      events: replyEvents(response.body ?? new ReadableStream(), abort),
    }
  }

  /** A new answer always has something to say. */
  async function begin(path: string, init: RequestInit = {}): Promise<Reply> {
    const reply = await stream('POST', path, init)
    if (reply === null) throw new ApiError(0, plainFailure('unreachable'))
    return reply
  }

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

    ask(question, key) {
      const { body, headers } = json(question)
      return begin('/api/chat/stream', { body, headers: { ...headers, 'idempotency-key': key } })
    },

    regenerate: (messageId) => begin(`/api/messages/${messageId}/regenerate`),

    resume(messageId, after) {
      const headers: Record<string, string> = after < 0 ? {} : { 'last-event-id': String(after) }
      return stream('GET', `/api/chat/stream/${messageId}`, { headers })
    },

    async stop(messageId) {
      await request('DELETE', `/api/chat/stream/${messageId}`)
    },

    yourData: () => get('/api/user'),

    async exportData(userId) {
      await request('POST', `/api/users/${encodeURIComponent(userId)}/export`)
    },

    async eraseData(userId) {
      await request('DELETE', `/api/users/${encodeURIComponent(userId)}`)
    },
  }
}
