import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { setTimeout as delay, setImmediate as turn } from 'node:timers/promises'
import type { ChatRequest } from './chat-request.ts'
import { answerOf, type Script } from './script.ts'
import { countTokens } from './text.ts'

/** OpenAI counts some tokens for each message's frame. */
const TOKENS_PER_MESSAGE = 3

/**
 * Plays a script as the answer to a chat request. Stops as soon as the client is gone; `sent` is called after
 * each piece.
 */
export async function playChat(
  request: ChatRequest,
  script: Script,
  response: ServerResponse,
  sent: () => void,
): Promise<void> {
  const answer = answerOf(script, request.maxTokens)
  const gone = new AbortController()
  response.once('close', () => gone.abort())
  const frames = request.stream ? streamFrames(request, response) : collectFrames(request, response)
  try {
    for (const [index, piece] of [...answer.pieces, undefined].entries()) {
      await pause((index === 0 && script.firstDelayMs) || script.tokenDelayMs || 0, gone.signal)
      if (index === script.cutAfter) return void response.destroy()
      if (index === script.hangAfter) await once(response, 'close')
      gone.signal.throwIfAborted()
      if (piece === undefined) break
      if (!frames.piece(piece)) await once(response, 'drain', { signal: gone.signal })
      sent()
    }
  } catch (error) {
    if (gone.signal.aborted) return
    throw error
  }
  frames.end(answer.finishReason, {
    prompt_tokens: request.messages.reduce(
      (sum, { content }) => sum + countTokens(content) + TOKENS_PER_MESSAGE,
      0,
    ),
    completion_tokens: answer.pieces.length,
  })
}

/** Without a delay the others still get their turn, and a client that left is noticed. */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (ms > 0) await delay(ms, undefined, { signal })
  else await turn(undefined, { signal })
}

type Usage = { prompt_tokens: number; completion_tokens: number }
type Frames = {
  /** False: wait for `drain`. */
  piece(text: string): boolean
  end(finishReason: string, usage: Usage): void
}

function streamFrames({ model, includeUsage }: ChatRequest, response: ServerResponse): Frames {
  const base = { id: newId(), object: 'chat.completion.chunk', created: nowSeconds(), model }
  const usage = includeUsage ? { usage: null } : {}
  const frame = (body: object): boolean => response.write(`data: ${JSON.stringify({ ...base, ...body })}\n\n`)
  const delta = (change: object, finish_reason: string | null): boolean =>
    frame({ choices: [{ index: 0, delta: change, logprobs: null, finish_reason }], ...usage })
  let begun = false
  const begin = (): void => {
    if (begun) return
    begun = true
    response.socket?.setNoDelay(true)
    response.writeHead(200, {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store',
    })
    delta({ role: 'assistant', content: '' }, null)
  }
  return {
    piece: (content) => {
      begin()
      return delta({ content }, null)
    },
    end: (finishReason, counts) => {
      begin()
      delta({}, finishReason)
      if (includeUsage) frame({ choices: [], usage: withTotal(counts) })
      response.end('data: [DONE]\n\n')
    },
  }
}

function collectFrames({ model }: ChatRequest, response: ServerResponse): Frames {
  let content = ''
  return {
    piece: (text) => {
      content += text
      return true
    },
    end: (finish_reason, counts) => {
      const message = { role: 'assistant', content, refusal: null }
      const choices = [{ index: 0, message, logprobs: null, finish_reason }]
      const body = { id: newId(), object: 'chat.completion', created: nowSeconds(), model, choices }
      response.writeHead(200, { 'content-type': 'application/json' })
      response.end(JSON.stringify({ ...body, usage: withTotal(counts) }))
    },
  }
}

function withTotal(usage: Usage): Usage & { total_tokens: number } {
  return { ...usage, total_tokens: usage.prompt_tokens + usage.completion_tokens }
}

function newId(): string {
  return `chatcmpl-${randomUUID()}`
}

function nowSeconds(): number {
  return Math.floor(Date.now() / 1000)
}
