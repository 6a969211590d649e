import { once } from 'node:events'
import { connect } from 'node:net'
import OpenAI from 'openai'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { respondUsefully } from '../../local/model/brain.ts'
import {
  type Respond,
  type Script,
  type ScriptedModel,
  startScriptedModel,
} from '../../local/model/scripted-model.ts'

let model: ScriptedModel
let respond: Respond | undefined
let client: OpenAI

beforeEach(async () => {
  respond = undefined
  model = await startScriptedModel({ respond: (request) => (respond ?? respondUsefully)(request) })
  client = new OpenAI({ baseURL: model.url, apiKey: 'any', maxRetries: 0 })
})

afterEach(() => model.close())

type Message = OpenAI.ChatCompletionMessageParam
const user = (content: string): Message => ({ role: 'user', content })
const script = (wanted: Script): void => {
  respond = () => wanted
}

async function ask(...messages: Message[]): Promise<string> {
  const completion = await client.chat.completions.create({ model: 'm', messages })
  return completion.choices[0]?.message.content ?? ''
}

async function stream(options: Partial<OpenAI.ChatCompletionCreateParamsStreaming> = {}) {
  return client.chat.completions.create({
    model: 'm',
    messages: [user('hello')],
    stream: true,
    stream_options: { include_usage: true },
    ...options,
  })
}

async function read(chunks: AsyncIterable<OpenAI.ChatCompletionChunk>) {
  const pieces: string[] = []
  let finishReason: string | null = null
  let usage: OpenAI.CompletionUsage | null | undefined
  for await (const chunk of chunks) {
    const choice = chunk.choices[0]
    if (choice?.delta.content) pieces.push(choice.delta.content)
    finishReason = choice?.finish_reason ?? finishReason
    usage = chunk.usage ?? usage
  }
  return { pieces, finishReason, usage }
}

test('an answer is streamed word by word and ends with its usage', async () => {
  script({ content: '배송은 보통 2일 걸립니다.' })
  const { pieces, finishReason, usage } = await read(await stream())
  expect(pieces).toEqual(['배송은', ' 보통', ' 2일', ' 걸립니다.'])
  expect(finishReason).toBe('stop')
  expect(usage).toEqual({ prompt_tokens: 4, completion_tokens: 4, total_tokens: 8 })
})

test('without include_usage there is no usage', async () => {
  const { usage } = await read(await stream({ stream_options: null }))
  expect(usage).toBeUndefined()
})

test('a request that does not stream gets the same answer at once', async () => {
  script({ content: ['one', ' two'] })
  const completion = await client.chat.completions.create({ model: 'gpt', messages: [user('hi')] })
  expect(completion).toMatchObject({
    object: 'chat.completion',
    model: 'gpt',
    choices: [{ finish_reason: 'stop', message: { role: 'assistant', content: 'one two' } }],
    usage: { completion_tokens: 2 },
  })
})

test.each(['max_tokens', 'max_completion_tokens'])(
  'an answer longer than %s is cut with finish reason length',
  async (limit) => {
    script({ content: 'one two three' })
    const { pieces, finishReason, usage } = await read(await stream({ [limit]: 2 }))
    expect(pieces.join('')).toBe('one two')
    expect(finishReason).toBe('length')
    expect(usage?.completion_tokens).toBe(2)
  },
)

test('the pieces of any text are the text again', async () => {
  const content = `  첫 줄\n\n- 목록\n\`\`\`ts\nconst a = '👍🏽'\n\`\`\`\n${'긴'.repeat(50)} \n`
  script({ content })
  const { pieces } = await read(await stream())
  expect(pieces.join('')).toBe(content)
  expect(pieces.length).toBeGreaterThan(8)
})

test('an empty answer is a proper one', async () => {
  script({ content: '' })
  expect(await read(await stream())).toMatchObject({ pieces: [], finishReason: 'stop' })
})

test('a script can end for length', async () => {
  script({ content: 'x', finishReason: 'length' })
  expect((await read(await stream())).finishReason).toBe('length')
})

test('429 comes with Retry-After, 500 without', async () => {
  script({ error: { status: 429, retryAfterSeconds: 7 } })
  const limited = await stream().catch((error) => error)
  expect(limited).toBeInstanceOf(OpenAI.RateLimitError)
  expect(limited.headers.get('retry-after')).toBe('7')
  script({ error: { status: 500 } })
  await expect(stream()).rejects.toBeInstanceOf(OpenAI.InternalServerError)
})

test('a model that hangs before the first token sends not even headers', async () => {
  script({ content: 'never', hangAfter: 0 })
  await expect(
    client.chat.completions.create({ model: 'm', messages: [user('x')], stream: true }, { timeout: 100 }),
  ).rejects.toBeInstanceOf(OpenAI.APIConnectionTimeoutError)
  await model.requests[0]?.over
  expect(model.requests[0]).toMatchObject({ outcome: 'disconnected', piecesSent: 0 })
})

test('a model that hangs in the middle stops making tokens when its client leaves', async () => {
  script({ content: 'one two three', hangAfter: 2 })
  const chunks = await stream()
  let seen = 0
  for await (const chunk of chunks) {
    if (chunk.choices[0]?.delta.content) seen += 1
    if (seen === 2) break // breaking out of the loop aborts the request
  }
  await model.requests[0]?.over
  expect(model.requests[0]).toMatchObject({ outcome: 'disconnected', piecesSent: 2 })
})

test('a client that leaves ends the answer', async () => {
  script({ content: 'word '.repeat(100_000), tokenDelayMs: 1 })
  for await (const _ of await stream()) break
  await model.requests[0]?.over
  expect(model.requests[0]?.outcome).toBe('disconnected')
  expect(model.requests[0]?.piecesSent).toBeLessThan(1_000)
})

test('a connection that is cut in the middle fails the stream after what was sent', async () => {
  script({ content: 'one two three', cutAfter: 2, tokenDelayMs: 30 })
  const pieces: string[] = []
  const reading = async () => {
    for await (const chunk of await stream()) pieces.push(chunk.choices[0]?.delta.content ?? '')
  }
  await expect(reading()).rejects.toThrow()
  expect(pieces.join('')).toBe('one two')
})

test('a connection that is cut before any byte fails the request', async () => {
  script({ content: 'never', cutAfter: 0 })
  await expect(stream()).rejects.toBeInstanceOf(OpenAI.APIConnectionError)
})

test('another protocol than the expected one brings no content', async () => {
  script({ wrongProtocol: true })
  expect((await read(await stream())).pieces).toEqual([])
})

test('a scripted delay comes before the first piece only', async () => {
  script({ content: 'one two three', firstDelayMs: 50 })
  const startedAt = performance.now()
  await read(await stream())
  const took = performance.now() - startedAt
  expect(took).toBeGreaterThan(45)
  expect(took).toBeLessThan(1_000)
})

test.each([
  ['no messages', { model: 'm' }],
  ['an empty list of messages', { model: 'm', messages: [] }],
  ['an unknown role', { model: 'm', messages: [{ role: 'wizard', content: 'x' }] }],
  ['a message without content', { model: 'm', messages: [{ role: 'user' }] }],
  ['no model', { messages: [user('x')] }],
  ['a limit of zero', { model: 'm', messages: [user('x')], max_tokens: 0 }],
])('%s is a bad request', async (_name, body) => {
  await expect(client.chat.completions.create(body as never)).rejects.toBeInstanceOf(OpenAI.BadRequestError)
})

test('a body that is no JSON is a bad request, an unknown path is not found', async () => {
  const headers = { authorization: 'Bearer x' }
  const bad = await fetch(`${model.url}/chat/completions`, { method: 'POST', body: 'no', headers })
  expect(bad.status).toBe(400)
  expect(await bad.json()).toMatchObject({ error: { type: 'invalid_request_error' } })
  expect((await fetch(`${model.url}/nothing`, { headers })).status).toBe(404)
})

test('a request without a key is refused with 401', async () => {
  expect((await fetch(`${model.url}/models`)).status).toBe(401)
})

test('its models are listed', async () => {
  const ids = (await client.models.list()).data.map(({ id }) => id)
  expect(ids).toEqual(['scripted-chat', 'scripted-embedding'])
})

test('a request is recorded with what the model was given', async () => {
  await ask({ role: 'system', content: 'Be brief.' }, user('hello'))
  expect(model.requests[0]).toMatchObject({
    path: '/v1/chat/completions',
    outcome: 'finished',
    chat: {
      messages: [
        { role: 'system', content: 'Be brief.' },
        { role: 'user', content: 'hello' },
      ],
    },
  })
})

const cosine = (a: number[], b: number[]): number =>
  a.reduce((sum, value, index) => sum + value * (b[index] ?? 0), 0)

async function embed(input: string[], dimensions?: number): Promise<number[][]> {
  const { data } = await client.embeddings.create({ model: 'e', input, ...(dimensions && { dimensions }) })
  return data.map(({ embedding }) => embedding)
}

test('embeddings are of unit length, the same each time, and nearer for texts that share words', async () => {
  const [question = [], policy = [], other = []] = await embed([
    '배송 정책이 어떻게 되나요?',
    '배송 정책 안내',
    '환불은 언제 되나요',
  ])
  expect(question).toHaveLength(1536)
  expect(cosine(question, question)).toBeCloseTo(1, 5)
  expect(cosine(question, policy)).toBeGreaterThan(cosine(question, other))
  expect((await embed(['배송 정책이 어떻게 되나요?']))[0]).toEqual(question)
})

test('embeddings honour dimensions and both encodings', async () => {
  const input = 'shipping policy'
  const options = { model: 'e', input, dimensions: 256 }
  const floats =
    (await client.embeddings.create({ ...options, encoding_format: 'float' })).data[0]?.embedding ?? []
  const base64 = (await client.embeddings.create({ ...options, encoding_format: 'base64' })).data[0]
    ?.embedding
  expect(floats).toHaveLength(256)
  const bytes = Buffer.from(base64 as unknown as string, 'base64')
  const decoded = Array.from({ length: 256 }, (_, index) => bytes.readFloatLE(index * 4))
  expect(cosine(decoded, floats)).toBeCloseTo(1, 5)
  await expect(client.embeddings.create({ model: 'e', input: '' })).rejects.toBeInstanceOf(
    OpenAI.BadRequestError,
  )
})

test.each([
  ['안녕하세요', '안녕하세요!'],
  ['Hello there', 'Hello!'],
  ['배송 정책이 어떻게 되나요?', '| 지역 | 기간 | 배송비 |'],
  ['What is your shipping policy?', '| Region | Time | Fee |'],
  ['환불하고 싶어요', '**7일 이내**'],
  ['How do I get a refund?', '**7 days**'],
  ['Show me a code example', '```ts'],
  ['오늘 몇 시까지 상담하나요?', '오후 6시'],
])('%s is answered in its language', async (question, part) => {
  expect(await ask(user(question))).toContain(part)
})

test.each([
  ['My name is Minji and my order is late', 'What is my name?', '**Minji**'],
  ['내 이름은 민지야', '내 이름이 뭐라고 했지?', '**민지**라고'],
  ['내 이름은 하늘이야', '내 이름이 뭐라고 했지?', '**하늘**이라고'],
  ['제 이름은 김민지입니다. 배송 문의예요', '제 이름이 뭐라고 했죠?', '**김민지**'],
  ['환불 규정이 뭐예요?', '아까 뭐라고 물었지?', '환불 규정이 뭐예요?'],
  ['Do you ship to Jeju?', 'What did I ask before?', 'Do you ship to Jeju?'],
])('told %s, it remembers when asked %s', async (earlier, question, part) => {
  expect(await ask(user(earlier), { role: 'assistant', content: '네.' }, user(question))).toContain(part)
  expect(await ask(user(question))).not.toContain(part)
})

test.each(['Write a long story about a parcel', '배송에 대해 길게 설명해 줘'])(
  '%s gets a long answer',
  async (question) => {
    expect((await ask(user(question))).length).toBeGreaterThan(1_500)
  },
)

test('it listens on 127.0.0.1 and on no other address', async () => {
  const socket = connect(Number(new URL(model.url).port), '127.0.0.2') // answered by what listens everywhere
  await expect(once(socket, 'connect')).rejects.toThrow()
})
