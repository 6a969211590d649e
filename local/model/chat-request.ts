/** A request to POST /v1/chat/completions, checked. */
export type ChatRequest = {
  model: string
  messages: ChatMessage[]
  stream: boolean
  includeUsage: boolean
  maxTokens: number | undefined
}

export type ChatMessage = { role: string; content: string }

export class BadRequest extends Error {
  readonly param: string

  constructor(param: string, message: string) {
    super(message)
    this.param = param
  }
}

const ROLES = new Set(['system', 'developer', 'user', 'assistant', 'tool'])

export function parseObject(body: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(body)
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { ...value }
  } catch {
    // Answered below, like every other body that is no object.
  }
  throw new BadRequest('', 'We could not parse the JSON body of your request.')
}

export function parseModel(body: Record<string, unknown>): string {
  if (typeof body.model === 'string' && body.model !== '') return body.model
  throw new BadRequest('model', 'you must provide a model parameter')
}

/** Throws BadRequest that names the parameter. */
export function parseChatRequest(body: Record<string, unknown>): ChatRequest {
  const { messages } = body
  if (!Array.isArray(messages) || messages.length === 0) {
    throw new BadRequest('messages', "Invalid 'messages': expected a non-empty array.")
  }
  return {
    model: parseModel(body),
    messages: messages.map(parseMessage),
    stream: optional(body, 'stream', (value) => typeof value === 'boolean') === true,
    includeUsage: Reflect.get(Object(body.stream_options), 'include_usage') === true,
    maxTokens: (optional(body, 'max_completion_tokens', isPositiveInteger) ??
      optional(body, 'max_tokens', isPositiveInteger)) as number | undefined,
  }
}

function isPositiveInteger(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) > 0
}

function optional(
  body: Record<string, unknown>,
  name: string,
  isValid: (value: unknown) => boolean,
): unknown {
  const value = body[name] ?? undefined
  if (value !== undefined && !isValid(value)) throw new BadRequest(name, `Invalid '${name}'.`)
  return value
}

function parseMessage(message: unknown, index: number): ChatMessage {
  const { role, content } = Object(message)
  if (!ROLES.has(role)) throw new BadRequest(`messages[${index}].role`, `Invalid 'messages[${index}].role'.`)
  const text = textOf(content)
  if (text !== undefined) return { role, content: text }
  if (role === 'assistant') return { role, content: '' } // a call of a tool has none
  throw new BadRequest(`messages[${index}].content`, `Invalid 'messages[${index}].content'.`)
}

function textOf(content: unknown): string | undefined {
  if (typeof content === 'string') return content
  if (!Array.isArray(content)) return undefined
  return content.map((part) => (part?.type === 'text' ? String(part.text) : '')).join('')
}
