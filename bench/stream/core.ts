/**
 * Turnkeep's chat function behind plain node:http: what the product costs, without the front door and the Runtime API that
 * stand for Lambda. It is the deployed handler, with everything on; its environment says which services it uses.
 */
import { randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { outgoingHeaders, toFunctionUrlEvent } from '../../local/cloud/function-url.ts'
import { provideAwslambda } from '../../local/functions/awslambda.ts'
import { serve } from './child.ts'

type Write = (chunk: string | Uint8Array) => void
type LambdaStream = ServerResponse & {
  setContentType(contentType: string): void
  _onBeforeFirstWrite?: (write: Write) => void
}

const HANDLER = resolve(import.meta.dirname, '../../lambdas/handlers/chat.ts')
const TIMEOUT_MS = 900_000

provideAwslambda()
const { handler } = await import(pathToFileURL(HANDLER).href)

/** What Lambda's service makes of a streamed answer: its prelude becomes status and headers, the rest is the body. */
function asLambdaStream(response: ServerResponse, requestId: string): LambdaStream {
  const stream = response as LambdaStream
  const write = stream.write.bind(stream) as (...args: unknown[]) => boolean
  const readPrelude: Write = (part) => {
    if (typeof part !== 'string') return // what separates it from the body
    const { statusCode, headers = {}, cookies = [] } = JSON.parse(part)
    response.writeHead(statusCode, outgoingHeaders({ statusCode, headers, cookies }, requestId))
  }
  stream.setContentType = () => undefined
  stream.write = ((...args: unknown[]) => {
    if (!response.headersSent) stream._onBeforeFirstWrite?.(readPrelude)
    return write(...args)
  }) as ServerResponse['write']
  return stream
}

async function invoke(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const arrivedAt = Date.now()
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk)
  const requestId = randomUUID()
  await handler(
    toFunctionUrlEvent(request, Buffer.concat(chunks), requestId),
    asLambdaStream(response, requestId),
    {
      functionName: 'chat',
      awsRequestId: requestId,
      getRemainingTimeInMillis: () => TIMEOUT_MS - (Date.now() - arrivedAt),
    },
  )
}

serve(
  createServer((request, response) => {
    invoke(request, response).catch((error) => {
      if (!response.destroyed) console.error('core:', error) // or its reader has gone
      response.destroy()
    })
  }),
)
