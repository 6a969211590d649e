/**
 * A plain relay: the `openai` client on one side, server-sent events on the other. It keeps nothing, so its clients bring
 * the conversation along.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import OpenAI from 'openai'
import { serve } from './child.ts'

const client = new OpenAI({ apiKey: 'scripted', baseURL: process.env.OPENAI_BASE_URL ?? '' })

async function relay(request: IncomingMessage, response: ServerResponse): Promise<void> {
  let body = ''
  for await (const chunk of request.setEncoding('utf8')) body += chunk
  const { messages } = JSON.parse(body)
  const chunks = await client.chat.completions.create({
    model: 'scripted-chat',
    messages,
    stream: true,
    stream_options: { include_usage: true },
  })
  response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-store' })
  for await (const chunk of chunks) {
    const content = chunk.choices[0]?.delta.content
    if (content) response.write(`data: ${JSON.stringify({ type: 'token', content })}\n\n`)
  }
  response.end(`data: ${JSON.stringify({ type: 'done' })}\n\n`)
}

serve(
  createServer((request, response) => {
    relay(request, response).catch((error) => {
      console.error('relay:', error)
      response.destroy()
    })
  }),
)
