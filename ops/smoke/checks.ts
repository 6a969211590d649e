/**
 * What a client relies on, tried one after another on a running environment: docs/protocol.md has the promises. Later
 * checks use the conversation of earlier ones, and are skipped where there is none.
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ChatAnswer } from '../../lambdas/protocol/chat.ts'
import type { ErrorBody, FieldProblem } from '../../lambdas/protocol/errors.ts'
import type { Page } from '../../lambdas/protocol/lists.ts'
import type { MessagePage } from '../../lambdas/protocol/messages.ts'
import type { Session } from '../../lambdas/protocol/sessions.ts'
import { type Answer, type Client, described, type Reply, replyOf, textOf, Unexpected } from './client.ts'

/** This check says nothing here, and why. */
export class Skipped extends Error {}

export interface Context {
  url: URL
  client: Client
  /** With a token of another tenant. */
  other: Client | undefined
  /** Sessions that were made, to be removed at the end. */
  made: Set<string>
  /** The conversation that the checks share, once its first answer is whole. */
  talk: { sessionId: string; said: string[]; reply: Reply } | undefined
}

export interface Check {
  title: string
  /** Returns a remark, or nothing. Throws Unexpected where the contract is broken, Skipped where it cannot tell. */
  run(context: Context): Promise<string | undefined>
}

const NAME = '하늘'
const QUESTION = `제 이름은 ${NAME}입니다. 배송 정책이 어떻게 되나요?`
const NAME_QUESTION = '제 이름이 뭐라고 했죠?'
const OTHER_QUESTION = '환불 절차를 단계별로 설명해 주세요.'
const LONG_QUESTION = '1부터 500까지 한 줄에 하나씩, 설명을 붙여 길게 세어 주세요.'

/** A paused database takes 15 s to wake, 30 s after a day, and is asked again meanwhile. */
const WAKING_MS = 60_000
const WAKING_PAUSE_MS = 3_000
/** An answer that is over sooner looks the same buffered or not. */
const SHORTEST_JUDGED_MS = 500
const FEWEST_READS = 3
/** A second is promised; the way to the client and back is not. */
const STOP_MS = 2_000

export const checks: Check[] = [
  {
    title: 'health answers',
    run: async ({ client }) => {
      const health = await client.call<{ status?: string }>('GET', '/api/health', { anonymous: true })
      requireStatus(health, 200)
      if (health.body?.status !== 'ok') throw new Unexpected(`says ${JSON.stringify(health.body)}`)
      return undefined
    },
  },
  {
    title: 'the page is served, with its security headers and its script',
    run: async ({ client, url }) => {
      const page = await client.call<string>('GET', '/', { anonymous: true })
      requireStatus(page, 200)
      requireHeaders(page, url.protocol === 'https:' ? [...PAGE_HEADERS, HTTPS_HEADER] : PAGE_HEADERS)
      const script = /src="(\/assets\/[^"]+\.js)"/.exec(String(page.body))?.[1]
      if (script === undefined) throw new Unexpected('names no script')
      const asset = await client.call('GET', script, { anonymous: true })
      requireStatus(asset, 200)
      requireHeaders(asset, [['content-type', /^(text|application)\/javascript/]])
      return undefined
    },
  },
  {
    title: 'without a token nobody is let in',
    run: async ({ client }) => {
      for (const [method, path, body] of [
        ['GET', '/api/sessions'],
        ['POST', '/api/chat/stream', { message: QUESTION }],
      ] as const)
        requireError(await client.call(method, path, { body, anonymous: true }), 401, 'unauthenticated')
      return undefined
    },
  },
  { title: 'the token is accepted, the database is awake', run: ({ client }) => wake(client) },
  {
    title: 'a Korean question is answered in a stream, as it is written',
    run: async (context) => {
      const sessionId = newSession(context)
      const reply = await context.client.ask({ message: QUESTION, sessionId })
      requireWhole(reply)
      if (!reply.session.created) throw new Unexpected('the session is not said to be new')
      context.talk = { sessionId, said: [QUESTION, reply.text], reply }
      return judgeFlow(reply)
    },
  },
  {
    title: 'the conversation is remembered',
    run: async (context) => {
      const talk = talkOf(context)
      const reply = await context.client.ask({ message: NAME_QUESTION, sessionId: talk.sessionId })
      const { metadata } = requireWhole(reply)
      talk.said.push(NAME_QUESTION, reply.text)
      if (metadata.contextLength < 2)
        throw new Unexpected(`${metadata.contextLength} earlier messages were given`)
      if (!reply.text.includes(NAME)) throw new Unexpected('the answer does not hold the name that was given')
      return undefined
    },
  },
  {
    title: 'what was said can be read, in order',
    run: async (context) => {
      const { sessionId, said } = talkOf(context)
      const messages = await messagesOf(context.client, sessionId)
      const wrong = said.findIndex((content, index) => {
        const message = messages[index]
        return (
          message?.content !== content ||
          message.sequenceNumber !== index + 1 ||
          message.status !== 'complete'
        )
      })
      if (wrong >= 0) throw new Unexpected(`message ${wrong + 1} is not what was said`)
      if (messages.length !== said.length)
        throw new Unexpected(`holds ${messages.length} messages, not ${said.length}`)
      return undefined
    },
  },
  {
    title: 'the session is listed, and can be changed',
    run: async (context) => {
      const { sessionId } = talkOf(context)
      const list = await context.client.call<Page<Session>>('GET', '/api/sessions?active=true')
      requireJson(list, 200)
      if (!list.body.items.some((session) => session.sessionId === sessionId))
        throw new Unexpected('it is not among the newest sessions')
      const inquiryCategory = '배송문의'
      const change = { body: { inquiryCategory } }
      requireStatus(await context.client.call('PATCH', `/api/sessions/${sessionId}`, change), 200)
      const session = await context.client.call<Session>('GET', `/api/sessions/${sessionId}`)
      if (session.body.inquiryCategory !== inquiryCategory) throw new Unexpected('the change is not there')
      return undefined
    },
  },
  {
    title: 'a client that lost its connection gets the rest, by Last-Event-ID',
    run: async (context) => {
      const sessionId = newSession(context)
      const seen = replyOf(
        await context.client.stream('POST', '/api/chat/stream', {
          body: { message: OTHER_QUESTION, sessionId },
          onEvent: ({ event }, leave) => event.type === 'token' && leave(),
        }),
      )
      const lastId = seen.events.at(-1)?.id ?? -1
      const rest = await context.client.stream('GET', `/api/chat/stream/${seen.messageId}`, {
        headers: { 'last-event-id': String(lastId) },
      })
      if (rest[0] !== undefined && rest[0].id !== lastId + 1)
        throw new Unexpected(`event ${rest[0].id} came after event ${lastId}`)
      const whole = replyOf([...seen.events, ...rest])
      requireWhole(whole)
      const [, answer] = await messagesOf(context.client, sessionId)
      if (answer?.content !== whole.text)
        throw new Unexpected('both parts together are not the answer that was saved')
      return undefined
    },
  },
  {
    title: 'a plain EventSource resumes, by resumeUrl alone',
    run: async (context) => {
      const { reply } = talkOf(context)
      const { resumeUrl } = reply.session
      if (resumeUrl === undefined) throw new Skipped('the answer has no resumeUrl')
      const again = replyOf(await context.client.stream('GET', resumeUrl, { anonymous: true }))
      requireSame(again, reply)
      const headers = { 'last-event-id': String(reply.events.at(-1)?.id) }
      requireStatus(await context.client.call('GET', resumeUrl, { anonymous: true, headers }), 204)
      return undefined
    },
  },
  {
    title: 'the same Idempotency-Key makes one turn',
    run: async (context) => {
      const sessionId = newSession(context)
      const headers = { 'idempotency-key': `smoke ${randomUUID()}` }
      const body = { message: OTHER_QUESTION, sessionId }
      const first = await context.client.ask(body, { headers })
      requireWhole(first)
      requireSame(await context.client.ask(body, { headers }), first)
      const messages = await messagesOf(context.client, sessionId)
      if (messages.length !== 2) throw new Unexpected(`there are ${messages.length} messages, not 2`)
      const changed = { ...body, message: QUESTION }
      const refused = await context.client.call('POST', '/api/chat/stream', { body: changed, headers })
      requireError(refused, 409, 'idempotency_mismatch')
      return undefined
    },
  },
  { title: 'an answer is stopped from another connection', run: stopOne },
  {
    title: 'a whole answer can be waited for, in a session of its own',
    run: async ({ client, made }) => {
      const answer = await client.call<ChatAnswer>('POST', '/api/chat', { body: { message: OTHER_QUESTION } })
      if (answer.body?.sessionId) made.add(answer.body.sessionId)
      requireJson(answer, 200)
      if (answer.body.content === '') throw new Unexpected('the answer is empty')
      return undefined
    },
  },
  {
    title: 'bad input is refused, and the field is named',
    run: async ({ client }) => {
      const body = { message: '   ' }
      const refused = await client.call<ErrorBody>('POST', '/api/chat/stream', { body })
      requireError(refused, 400, 'invalid_request')
      const fields = refused.body.error.details as FieldProblem[] | undefined
      if (fields?.[0]?.field !== 'message') throw new Unexpected('details do not name the field message')
      return undefined
    },
  },
  { title: 'another tenant sees nothing of it', run: tryAsOther },
  {
    title: 'an ended session takes no question, and stays readable',
    run: async (context) => {
      const { sessionId } = talkOf(context)
      requireStatus(await context.client.call('DELETE', `/api/sessions/${sessionId}`), 204)
      const body = { message: QUESTION, sessionId }
      requireError(await context.client.call('POST', '/api/chat/stream', { body }), 410, 'ended')
      await messagesOf(context.client, sessionId)
      return undefined
    },
  },
]

/** Run at the end, whatever happened before, also when it was interrupted. */
export const cleaningUp: Check = {
  title: 'what was made is removed',
  run: async ({ client, made }) => {
    for (const sessionId of made) {
      const purged = await client.call('DELETE', `/api/sessions/${sessionId}?purge=true`)
      if (purged.status === 404) continue // Its question was refused.
      requireStatus(purged, 204)
      requireError(await client.call('GET', `/api/sessions/${sessionId}`), 404, 'not_found')
    }
    return `${made.size} sessions`
  },
}

/** A paused database is woken by the first request, which is told to come again. */
async function wake(client: Client): Promise<string | undefined> {
  const startedAt = Date.now()
  for (let tries = 1; ; tries += 1) {
    const list = await client.call('GET', '/api/sessions?limit=1')
    if (list.status === 401 || list.status === 403)
      throw new Unexpected(
        `${described(list)}: has the token expired, is it of this environment's issuer and audience, and does it name a tenant?`,
      )
    if (list.status !== 503 || Date.now() - startedAt > WAKING_MS) {
      requireJson(list, 200)
      return tries > 1 ? `the database had to be woken: ${tries} tries` : undefined
    }
    await sleep(WAKING_PAUSE_MS)
  }
}

/**
 * Whether the answer came while it was written. The answer itself says how long that took, so a slow model is not
 * mistaken for a buffer, nor a quick one for a stream.
 */
function judgeFlow(reply: Reply): string {
  const { metadata } = requireWhole(reply)
  const at = (type: string) => reply.events.find(({ event }) => event.type === type)?.atMs ?? 0
  const [sessionMs, tokenMs, doneMs] = [at('session'), at('token'), at('done')].map(Math.round)
  const took = metadata.responseTime
  const flow = `first token after ${tokenMs} ms, done after ${doneMs} ms, tokens in ${reply.tokenReads} reads`
  if (took < SHORTEST_JUDGED_MS) return `${flow}; too quick to tell a stream from a buffer`
  if ((doneMs ?? 0) - (sessionMs ?? 0) < took / 2 || reply.tokenReads < FEWEST_READS)
    throw new Unexpected(
      `something between here and the function holds the stream back: it was written in ${took} ms, but its first event came ${sessionMs} ms after the request; ${flow}`,
    )
  return flow
}

async function stopOne(context: Context): Promise<string | undefined> {
  const { client } = context
  const sessionId = newSession(context)
  let stopping: Promise<Answer<unknown>> | undefined
  let askedAt = 0
  let messageId = ''
  const reply = await client.ask(
    { message: LONG_QUESTION, sessionId },
    {
      onEvent: ({ event }) => {
        if (event.type === 'session') messageId = event.messageId
        if (event.type !== 'token' || stopping) return
        askedAt = performance.now()
        stopping = client.call('DELETE', `/api/chat/stream/${messageId}`)
        stopping.catch(() => undefined) // It is looked at below.
      },
    },
  )
  const tookMs = Math.round(performance.now() - askedAt)
  const stopped = await stopping
  if (stopped?.status === 200) throw new Skipped('the answer was over before it could be stopped')
  if (stopped === undefined) throw new Unexpected('the answer had no token')
  requireStatus(stopped, 202)
  if (reply.terminal?.type !== 'done' || reply.terminal.finishReason !== 'stopped')
    throw new Unexpected(`the stream ended with ${endingOf(reply)}, not with done, stopped`)
  if (tookMs > STOP_MS) throw new Unexpected(`it took ${tookMs} ms`)
  const [, answer] = await messagesOf(client, sessionId)
  if (answer?.status !== 'stopped' || answer.content !== reply.text)
    throw new Unexpected('what was shown is not what is kept')
  return `after ${tookMs} ms`
}

async function tryAsOther(context: Context): Promise<undefined> {
  const { other } = context
  if (other === undefined) throw new Skipped('no --other-token')
  const { sessionId, reply } = talkOf(context)
  const own = await other.call<Page<Session>>('GET', '/api/sessions')
  if (own.status !== 200)
    throw new Unexpected(`its own list answers ${described(own)}: is --other-token valid?`)
  const listed = own.body.items.some((session) => session.sessionId === sessionId)
  const tries = [
    await other.call('GET', `/api/sessions/${sessionId}`),
    await other.call('GET', `/api/sessions/${sessionId}/messages`),
    await other.call('GET', `/api/chat/stream/${reply.messageId}`),
    await other.call('DELETE', `/api/sessions/${sessionId}`),
    await other.call('POST', '/api/chat/stream', { body: { message: QUESTION, sessionId } }),
  ]
  if (listed || tries.some(({ status }) => status < 400))
    throw new Unexpected('it was let in: is --other-token really of another tenant?')
  for (const answer of tries) requireError(answer, 404, 'not_found')
  return undefined
}

// ---------------------------------------------------------------- what checks share

const PAGE_HEADERS: [string, RegExp][] = [
  ['content-type', /^text\/html/],
  ['content-security-policy', /default-src .*frame-ancestors 'none'/],
  ['x-content-type-options', /^nosniff$/],
  ['referrer-policy', /./],
]
const HTTPS_HEADER: [string, RegExp] = ['strict-transport-security', /max-age=\d+/]

function newSession({ made }: Context): string {
  const sessionId = randomUUID()
  made.add(sessionId)
  return sessionId
}

function talkOf({ talk }: Context): NonNullable<Context['talk']> {
  if (talk === undefined) throw new Skipped('there is no conversation')
  return talk
}

async function messagesOf(client: Client, sessionId: string) {
  const page = await client.call<MessagePage>('GET', `/api/sessions/${sessionId}/messages?limit=100`)
  requireJson(page, 200)
  return page.body.items
}

function requireStatus(answer: Answer<unknown>, status: number): void {
  if (answer.status !== status) throw new Unexpected(`answered ${described(answer)}, not ${status}`)
}

function requireJson(answer: Answer<unknown>, status: number): void {
  requireStatus(answer, status)
  if (typeof answer.body !== 'object')
    throw new Unexpected(`answered ${described(answer)}, which is not JSON`)
}

/** As the contract shapes errors, with the request's id on it. */
function requireError(answer: Answer<unknown>, status: number, code: string): void {
  const { error } = (answer.body ?? {}) as Partial<ErrorBody>
  if (answer.status !== status || error?.code !== code)
    throw new Unexpected(`answered ${described(answer)}, not ${status} ${code}`)
  if (!answer.headers.has('x-request-id')) throw new Unexpected('the answer has no x-request-id')
}

function requireHeaders({ headers }: Answer<unknown>, wanted: [string, RegExp][]): void {
  for (const [name, pattern] of wanted) {
    const value = headers.get(name)
    if (!pattern.test(value ?? '')) throw new Unexpected(`the header ${name} is ${value ?? 'missing'}`)
  }
}

const endingOf = ({ terminal }: Reply): string =>
  terminal === undefined
    ? 'nothing'
    : terminal.type === 'error'
      ? `error ${terminal.code}`
      : `done, ${terminal.finishReason}`

function requireWhole(reply: Reply) {
  if (reply.terminal?.type !== 'done')
    throw new Unexpected(`the stream ended with ${endingOf(reply)}, not with done`)
  if (reply.text === '') throw new Unexpected('the answer is empty')
  return reply.terminal
}

function requireSame(again: Reply, first: Reply): void {
  if (again.messageId !== first.messageId) throw new Unexpected('it is another answer')
  if (textOf(again.events) !== first.text) throw new Unexpected('its text is another')
}
