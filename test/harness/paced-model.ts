/** A model whose answer leaves when a test says so, piece by piece: what a turn then does depends on no clock. */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { ModelSettings } from '../../local/cloud/cloud.ts'

export interface PacedModel {
  settings: ModelSettings
  close(): void
}

/** An answer to this question. What one step yields leaves in one write, a token for each text. */
export type Pieces = (question: string) => AsyncIterable<readonly string[]>

const COMMON = { id: 'chatcmpl-paced', object: 'chat.completion.chunk', created: 0, model: 'paced' }
const frame = (body: object): string => `data: ${JSON.stringify({ ...COMMON, ...body })}\n\n`
const token = (content: string): string => frame({ choices: [{ index: 0, delta: { content } }] })

export async function startPacedModel(pieces: Pieces): Promise<PacedModel> {
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { messages } = JSON.parse(Buffer.concat(await request.toArray()).toString())
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.flushHeaders()
    let tokens = 0
    for await (const texts of pieces(messages.at(-1).content)) {
      response.write(texts.map(token).join(''))
      tokens += texts.length
    }
    const usage = { prompt_tokens: 100, completion_tokens: tokens, total_tokens: 100 + tokens }
    const end = frame({ choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] })
    response.end(`${end}${frame({ choices: [], usage })}data: [DONE]\n\n`)
  }
  const server = createServer((request, response) => {
    answer(request, response).catch(() => response.destroy())
  })
  server.on('connection', (socket) => socket.setNoDelay(true))
  server.keepAliveTimeout = 120_000 // longer than a client keeps a connection for reuse
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`
  return {
    settings: { baseUrl, apiKey: 'paced', chatModel: 'paced', embeddingModel: 'paced' },
    close: () => {
      server.close()
      server.closeAllConnections()
    },
  }
}
