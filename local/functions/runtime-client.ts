import { Agent, type ClientRequest, type IncomingMessage, request } from 'node:http'

const API = '/2018-06-01/runtime'

export type NextInvocation = {
  requestId: string
  deadlineMs: number
  functionArn: string
  event: unknown
}

/** A stream like the one that Lambda gives to a streaming handler: the request to the Runtime API itself. */
export type ResponseStream = ClientRequest & {
  setContentType(contentType: string): void
  _onBeforeFirstWrite?: (write: (chunk: string | Uint8Array) => void) => void
}

/** Speaks to one function's Runtime API. Every call rejects when the cloud is gone. */
export type RuntimeClient = {
  next(): Promise<NextInvocation>
  respond(requestId: string, json: string): Promise<void>
  fail(requestId: string, error: unknown): Promise<void>
  failInit(error: unknown): Promise<void>
  /** `done` resolves when the Runtime API has taken the whole answer. */
  stream(requestId: string): { stream: ResponseStream; done: Promise<void> }
  /** Tells that a streamed answer broke off, in trailers, as the protocol has it. */
  breakOff(stream: ResponseStream, error: unknown): void
  /** Ends every connection. */
  close(): void
}

export function createRuntimeClient(runtimeApi: string): RuntimeClient {
  const { hostname, port } = new URL(`http://${runtimeApi}`)
  // One socket for each poll and each running answer. Agents set noDelay: small writes leave at once.
  const agent = new Agent({ keepAlive: true })
  const open = (method: string, path: string, headers: Record<string, string | number | string[]> = {}) =>
    request({ hostname, port, method, path: API + path, headers, agent })

  const post = async (path: string, body: string, headers = {}): Promise<void> => {
    const outgoing = open('POST', path, {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
      ...headers,
    })
    outgoing.end(body)
    await readAll(await answered(outgoing))
  }
  const postError = (path: string, error: unknown): Promise<void> => {
    const described = describe(error)
    return post(path, JSON.stringify(described), {
      'lambda-runtime-function-error-type': headerSafe(described.errorType),
    })
  }
  return {
    next: async () => {
      const outgoing = open('GET', '/invocation/next')
      outgoing.end()
      const response = await answered(outgoing)
      const body = await readAll(response)
      return {
        requestId: String(response.headers['lambda-runtime-aws-request-id']),
        deadlineMs: Number(response.headers['lambda-runtime-deadline-ms']),
        functionArn: String(response.headers['lambda-runtime-invoked-function-arn']),
        event: JSON.parse(body),
      }
    },
    respond: (requestId, json) => post(`/invocation/${requestId}/response`, json),
    fail: (requestId, error) => postError(`/invocation/${requestId}/error`, error),
    failInit: (error) => postError('/init/error', error),
    stream: (requestId) => {
      const outgoing = open('POST', `/invocation/${requestId}/response`, {
        'content-type': 'application/octet-stream',
        'lambda-runtime-function-response-mode': 'streaming',
        'transfer-encoding': 'chunked',
        trailer: ['Lambda-Runtime-Function-Error-Type', 'Lambda-Runtime-Function-Error-Body'],
      })
      return {
        stream: asResponseStream(outgoing),
        done: answered(outgoing)
          .then(readAll)
          .then(() => {}),
      }
    },
    breakOff: (stream, error) => {
      const described = describe(error)
      stream.addTrailers({
        'Lambda-Runtime-Function-Error-Type': headerSafe(described.errorType),
        'Lambda-Runtime-Function-Error-Body': Buffer.from(JSON.stringify(described)).toString('base64'),
      })
      stream.end()
    },
    close: () => agent.destroy(),
  }
}

function asResponseStream(outgoing: ClientRequest): ResponseStream {
  const stream = outgoing as ResponseStream
  const write = stream.write.bind(stream)
  let written = false
  stream.setContentType = (contentType) => {
    if (written) throw new Error('Cannot set content-type, too late.')
    stream.setHeader('content-type', contentType)
  }
  stream.write = ((chunk: unknown, ...rest: []) => {
    if (!written) stream._onBeforeFirstWrite?.((prefix) => void write(prefix))
    written = true
    const isData = typeof chunk === 'string' || chunk instanceof Uint8Array
    return write(isData ? chunk : JSON.stringify(chunk), ...rest)
  }) as ResponseStream['write']
  return stream
}

function answered(outgoing: ClientRequest): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    outgoing.once('response', resolve)
    outgoing.on('error', reject)
  })
}

async function readAll(response: IncomingMessage): Promise<string> {
  let body = ''
  for await (const chunk of response.setEncoding('utf8')) body += chunk
  return body
}

function describe(error: unknown): { errorType: string; errorMessage: string; trace: string[] } {
  if (!(error instanceof Error)) return { errorType: typeof error, errorMessage: String(error), trace: [] }
  return { errorType: error.name, errorMessage: error.message, trace: error.stack?.split('\n') ?? [] }
}

/** A header value may hold visible ASCII only. */
function headerSafe(text: string): string {
  return text.replace(/[^\x21-\x7e]/g, '?')
}
