/** A byte pipe before the model: the least that can stand between a client and it. */
import { Agent, createServer, request } from 'node:http'
import { pipeline } from 'node:stream'
import { serve } from './child.ts'

const model = new URL(process.env.OPENAI_BASE_URL ?? '')
const agent = new Agent({ keepAlive: true })

serve(
  createServer((incoming, response) => {
    const { method, url: path, headers } = incoming
    const outgoing = request(
      { agent, hostname: model.hostname, port: model.port, method, path, headers },
      (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers)
        pipeline(answer, response, () => undefined) // whoever has gone has gone
      },
    )
    pipeline(incoming, outgoing, () => undefined)
    outgoing.on('error', () => response.destroy())
  }),
)
