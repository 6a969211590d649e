import type { ChatRequest } from './chat-request.ts'
import { splitIntoPieces } from './text.ts'

/** What the model does with one request. Without any of the faults it answers, and stops. */
export type Script = {
  /** A text is streamed word by word, a list piece by piece. */
  content?: string | string[]
  /** Before the first piece, in place of the delay between two. */
  firstDelayMs?: number
  tokenDelayMs?: number
  finishReason?: 'stop' | 'length'
  /** Says nothing more after so many pieces, and keeps the connection open; 0: not even headers. */
  hangAfter?: number
  /**
   * Cuts the connection after so many pieces; 0: before any byte. As in life a client may lose what was sent just
   * before; with a `tokenDelayMs` it sees it.
   */
  cutAfter?: number
  /** Answers with this status and an error instead. */
  error?: { status: number; retryAfterSeconds?: number; message?: string }
  /** Answers 200 with a page of HTML, as a gateway does that one has not logged in to. */
  wrongProtocol?: boolean
}

export type Respond = (request: ChatRequest) => Script | Promise<Script>

export type Answer = { pieces: string[]; finishReason: 'stop' | 'length' }

/** The pieces that leave, within the request's limit of tokens. */
export function answerOf({ content = '', finishReason = 'stop' }: Script, maxTokens = Infinity): Answer {
  const pieces = typeof content === 'string' ? splitIntoPieces(content) : content
  if (pieces.length <= maxTokens) return { pieces, finishReason }
  return { pieces: pieces.slice(0, maxTokens), finishReason: 'length' }
}
