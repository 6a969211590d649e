/** Those who ask: each kind of subject by the way it is asked, all of them timed alike. */
import { Agent, type IncomingMessage, request } from 'node:http'
import OpenAI from 'openai'
import { questionOf, type Wanted } from './question.ts'

/** Earlier messages that the model is given, as the product does by default. */
export const HISTORY_MESSAGES = 5
const SYSTEM_PROMPT =
  'You are a helpful assistant. Answer in the language of the question, using the conversation so far.'

export type Phase = 1 | 2

/** The same with each subject: those that keep nothing are brought `messages`, the product knows the session. */
export interface Conversation {
  messages: { role: 'user' | 'assistant'; content: string }[]
  sessions: Partial<Record<Phase, string>>
  /** Bearer tokens. */
  logins: Partial<Record<Phase, string>>
}

export interface Turn {
  /** Until the first token, and until the whole answer was there. */
  firstMs: number
  wholeMs: number
  tokens: number
  /** Of the answer; the product's only. */
  messageId: string | undefined
}

/** What is told while an answer comes. */
export interface Told {
  /** It can be read again from now on; the product's only. */
  begun?(messageId: string): void
  /** Its first token is there. */
  spoken?(): void
}

/** Throws where the answer is not whole. */
export type Ask = (conversation: Conversation, wanted: Wanted, told?: Told) => Promise<Turn>

interface Event {
  type: string
  content?: string
  sessionId?: string
  messageId?: string
}

const newAgent = (): Agent => new Agent({ keepAlive: true })

/** Resolves with the headers; refuses everything but 200. */
function open(url: string, agent: Agent, login: string | undefined, body?: object): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const outgoing = request(url, {
      agent,
      method: body ? 'POST' : 'GET',
      headers: {
        ...(login && { authorization: `Bearer ${login}` }),
        ...(body && { 'content-type': 'application/json' }),
      },
    })
    outgoing.on('error', reject)
    outgoing.on('response', (response) => {
      if (response.statusCode === 200) return resolve(response)
      response.resume()
      reject(new Error(`${url} answered ${response.statusCode}`))
    })
    outgoing.end(body && JSON.stringify(body))
  })
}

/** Resolves with the last event. */
function readEvents(response: IncomingMessage, onEvent: (event: Event) => void): Promise<Event | undefined> {
  return new Promise((resolve, reject) => {
    let text = ''
    let last: Event | undefined
    response.setEncoding('utf8')
    response.on('data', (chunk: string) => {
      text += chunk
      const blocks = text.split('\n\n')
      text = blocks.pop() ?? ''
      for (const block of blocks) {
        const at = block.indexOf('data: ')
        if (at === -1) continue // a comment that keeps the connection alive
        last = JSON.parse(block.slice(at + 6)) as Event
        onEvent(last)
      }
    })
    response.on('end', () => resolve(last))
    response.on('error', reject)
  })
}

/** Times one answer: `say` is to be called with each token. */
function stopwatch({ tokens: wanted }: Wanted, told: Told | undefined) {
  const askedAt = performance.now()
  let firstMs: number | undefined
  let tokens = 0
  let text = ''
  return {
    say(content: string) {
      if (firstMs === undefined) {
        firstMs = performance.now() - askedAt
        told?.spoken?.()
      }
      tokens += 1
      text += content
    },
    end: (messageId?: string): Turn & { text: string } => {
      if (tokens !== wanted) throw new Error(`An answer has ${tokens} tokens of ${wanted}.`)
      return { firstMs: firstMs ?? 0, wholeMs: performance.now() - askedAt, tokens, messageId, text }
    },
  }
}

function bring({ messages }: Conversation, question: string) {
  return [
    { role: 'system' as const, content: SYSTEM_PROMPT },
    ...messages,
    { role: 'user' as const, content: question },
  ]
}

function keep(conversation: Conversation, question: string, answer: string): void {
  conversation.messages = [
    ...conversation.messages,
    { role: 'user' as const, content: question },
    { role: 'assistant' as const, content: answer },
  ].slice(-HISTORY_MESSAGES)
}

/** The `openai` client itself, at this base URL. */
export function askModel(baseURL: string): Ask {
  const client = new OpenAI({ apiKey: 'scripted', baseURL })
  return async (conversation, wanted, told) => {
    const question = questionOf(wanted)
    const { say, end } = stopwatch(wanted, told)
    const chunks = await client.chat.completions.create({
      model: 'scripted-chat',
      messages: bring(conversation, question),
      stream: true,
      stream_options: { include_usage: true },
    })
    for await (const chunk of chunks) {
      const content = chunk.choices[0]?.delta.content
      if (content) say(content)
    }
    const turn = end()
    keep(conversation, question, turn.text)
    return turn
  }
}

export function askRelay(url: string): Ask {
  const agent = newAgent()
  return async (conversation, wanted, told) => {
    const question = questionOf(wanted)
    const { say, end } = stopwatch(wanted, told)
    const response = await open(url, agent, undefined, { messages: bring(conversation, question) })
    await readEvents(response, ({ content }) => content && say(content))
    const turn = end()
    keep(conversation, question, turn.text)
    return turn
  }
}

export function askProduct(url: string, phase: Phase): Ask {
  const agent = newAgent()
  return async ({ sessions, logins }, wanted, told) => {
    const { say, end } = stopwatch(wanted, told)
    let messageId = ''
    const sessionId = sessions[phase]
    const response = await open(`${url}/api/chat/stream`, agent, logins[phase], {
      message: questionOf(wanted),
      ...(sessionId && { sessionId }),
    })
    const last = await readEvents(response, (event) => {
      if (event.type === 'token') say(event.content ?? '')
      else if (event.type === 'session') {
        sessions[phase] = event.sessionId ?? ''
        messageId = event.messageId ?? ''
        told?.begun?.(messageId)
      }
    })
    if (last?.type !== 'done') throw new Error(`An answer ended with ${JSON.stringify(last)}`)
    return end(messageId)
  }
}

export type Read = (
  conversation: Conversation,
  messageId: string,
  onlyFirst?: 'first',
) => Promise<{ firstMs: number; wholeMs: number }>

/** Reads an answer again from its start, to its end or to its first event. Throws where it does not end as it should. */
export function readProduct(url: string, phase: Phase): Read {
  const agent = newAgent()
  return async ({ logins }, messageId, onlyFirst) => {
    const askedAt = performance.now()
    let firstMs: number | undefined
    const response = await open(`${url}/api/chat/stream/${messageId}`, agent, logins[phase])
    const last = await new Promise<Event | undefined>((resolve, reject) => {
      readEvents(response, (event) => {
        firstMs ??= performance.now() - askedAt
        if (!onlyFirst) return
        response.removeAllListeners('error').on('error', () => undefined)
        response.destroy()
        resolve(event)
      }).then(resolve, reject)
    })
    if (!onlyFirst && last?.type !== 'done') throw new Error(`A reading ended with ${JSON.stringify(last)}`)
    return { firstMs: firstMs ?? 0, wholeMs: performance.now() - askedAt }
  }
}
