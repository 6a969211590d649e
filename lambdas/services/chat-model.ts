/** The model, behind any endpoint that speaks OpenAI's chat completions. */
import OpenAI, { APIError } from 'openai'
import { CodedError } from '../protocol/errors.ts'

export interface ModelMessage {
  role: 'system' | 'user' | 'assistant'
  content: string
}

export interface ModelUsage {
  promptTokens: number
  completionTokens: number
}

export interface ModelEnding {
  finishReason: 'stop' | 'length'
  model: string
  usage: ModelUsage | undefined
}

/** Told each piece of text as it comes; a promise that it returns is waited for. */
export type Listener = (content: string) => Promise<void> | undefined

export interface ModelRequest {
  model: string
  messages: readonly ModelMessage[]
  /** 0: no limit but the model's own. */
  answerTokens: number
}

export interface ChatModel {
  /**
   * Streams an answer to the listener, and resolves with its ending. Failures before the first text are tried again while
   * the first-token budget lasts; they end as CodedError `model_unavailable` (details.retryable), and so do silence and a
   * broken stream later on, which are not tried again. An aborted signal closes the connection, and this rejects with the
   * signal's reason.
   */
  stream(request: ModelRequest, signal: AbortSignal, listener: Listener): Promise<ModelEnding>
}

export interface ChatModelOptions {
  baseUrl?: string | undefined
  /** Asked before each request, since a key may be replaced while this lives. */
  apiKey: () => Promise<string>
  firstTokenMs: number
  silenceMs: number
}

/** The client's own retries honour `retry-after` and back off; the first-token budget cuts them short. */
const CONNECT_RETRIES = 2
/** Streams that opened and broke before any text are opened again this often. */
const STREAM_ATTEMPTS = 2

/** `retryable` is false where the same request would fail again: a bad key, a prompt that is too long. */
const modelFailure = (message: string, retryable: boolean, cause?: unknown): CodedError =>
  new CodedError('model_unavailable', message, { details: { retryable }, cause })

function failure(cause: unknown): CodedError {
  if (cause instanceof CodedError) return cause
  const status = cause instanceof APIError ? cause.status : undefined
  const retryable =
    status === undefined || status === 408 || status === 409 || status === 429 || status >= 500
  const message = status === 429 ? 'The model is busy. Try again in a moment.' : 'The model could not answer.'
  return modelFailure(message, retryable, withoutContent(cause))
}

/** What may be logged of an endpoint's error: its words may quote the prompt. */
function withoutContent(cause: unknown): Error {
  if (!(cause instanceof APIError)) return cause as Error
  const answer = `${cause.status ?? 'nothing'} ${cause.code ?? cause.type ?? cause.name}`
  if (cause.status !== 401) return new Error(`the endpoint answered ${answer}`)
  // Also what is seen before anybody has set a key: the stack makes the secret with a value that is none.
  return new Error(
    `the endpoint refused the key (${answer}): put the model's key into the secret of MODEL_KEY_SECRET_ARN; ` +
      'a new value is used within five minutes',
  )
}

/** Some endpoints send the usage with the last choice, some in a chunk of its own, some never. */
function endingAfter(
  { choices: [choice], usage, model }: OpenAI.ChatCompletionChunk,
  before: ModelEnding | undefined,
  request: ModelRequest,
): ModelEnding | undefined {
  if (!choice?.finish_reason && !usage) return before
  return {
    finishReason: choice?.finish_reason === 'length' || before?.finishReason === 'length' ? 'length' : 'stop',
    model: model || request.model,
    usage: usage
      ? { promptTokens: usage.prompt_tokens, completionTokens: usage.completion_tokens }
      : undefined,
  }
}

/** Aborts when nobody has called `touch` for a while. */
function watchdog(firstMs: number, nextMs: number, bark: () => void) {
  let timer = setTimeout(bark, firstMs)
  let touched = false
  return {
    touch() {
      if (touched) timer.refresh()
      else {
        clearTimeout(timer)
        timer = setTimeout(bark, nextMs)
        touched = true
      }
    },
    stop: () => clearTimeout(timer),
  }
}

export function openChatModel(options: ChatModelOptions): ChatModel {
  const { firstTokenMs, silenceMs } = options
  const client = new OpenAI({
    apiKey: options.apiKey,
    ...(options.baseUrl === undefined ? {} : { baseURL: options.baseUrl }),
    timeout: firstTokenMs,
    maxRetries: CONNECT_RETRIES,
  })

  async function stream(
    request: ModelRequest,
    signal: AbortSignal,
    listener: Listener,
  ): Promise<ModelEnding> {
    // Not AbortSignal.any: the client looks at its signal with every token, and such a one then looks at all of its own.
    const ended = new AbortController()
    const end = (): void => ended.abort(signal.reason)
    if (signal.aborted) end()
    signal.addEventListener('abort', end)
    const dog = watchdog(firstTokenMs, silenceMs, () =>
      ended.abort(modelFailure('The model has fallen silent.', true)),
    )
    try {
      for (let attempt = 1; ; attempt += 1) {
        let spoken = false
        try {
          let ending: ModelEnding | undefined
          for await (const chunk of await ask(request, ended.signal)) {
            const content = chunk.choices[0]?.delta.content
            if (content) {
              dog.touch()
              spoken = true
              const heard = listener(content)
              if (heard) await heard
            }
            ending = endingAfter(chunk, ending, request)
          }
          // The client ends quietly when it is aborted, and when the connection closes between two events.
          if (ended.signal.aborted) throw ended.signal.reason
          if (ending === undefined) throw modelFailure('The model broke off its answer.', true)
          return ending
        } catch (error) {
          if (ended.signal.aborted) throw ended.signal.reason
          // What the endpoint answered with a status, the client has tried again already.
          if (spoken || error instanceof APIError || attempt >= STREAM_ATTEMPTS) throw failure(error)
        }
      }
    } finally {
      dog.stop()
      signal.removeEventListener('abort', end)
    }
  }

  const ask = ({ model, messages, answerTokens }: ModelRequest, signal: AbortSignal) =>
    client.chat.completions.create(
      {
        model,
        messages: [...messages],
        stream: true,
        stream_options: { include_usage: true },
        ...(answerTokens > 0 ? { max_completion_tokens: answerTokens } : {}),
      },
      { signal },
    )

  return { stream }
}
