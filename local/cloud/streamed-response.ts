import type { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import { InvocationError } from './invocation-error.ts'

/** What a streamed answer begins with: HttpResponseStream.from()'s second argument, filled up. */
export type Prelude = { statusCode: number; headers: Record<string, string>; cookies: string[] }

export const INTEGRATION_CONTENT_TYPE = 'application/vnd.awslambda.http-integration-response'
const DELIMITER = Buffer.alloc(8)

type Watcher = {
  /** The first byte is there, or the end of an empty answer. */
  begun(prelude: Prelude): void
  /** Called once, last. The body has failed with the same error. */
  ended(error?: InvocationError): void
}

/**
 * Reads the body of a streaming POST …/response: a JSON prelude, eight NUL bytes, then what the client gets;
 * or, with any other content type, only what the client gets. Whoever destroys the body stops listening, the
 * function is read to its end all the same, as Lambda does when a client goes away.
 */
export function readStreamedResponse(
  request: IncomingMessage,
  functionName: string,
  watcher: Watcher,
): Readable {
  let head: Buffer | undefined = Buffer.alloc(0)
  let over = false
  const body = new Readable({ read: () => void request.resume() })
  body.on('error', () => undefined) // it may fail before its reader has had a chance to listen
  body.on('close', () => request.resume())

  const end = (error?: InvocationError): void => {
    if (over) return
    over = true
    if (error) body.destroy(error)
    else body.push(null)
    watcher.ended(error)
  }
  const begin = (prelude: Prelude, rest: Buffer): void => {
    head = undefined
    watcher.begun(prelude)
    if (rest.length > 0) body.push(rest)
  }
  request.on('data', (chunk: Buffer) => {
    if (over || body.destroyed) return
    if (!head) {
      if (!body.push(chunk)) request.pause()
      return
    }
    head = head.length === 0 ? chunk : Buffer.concat([head, chunk])
    if (!hasPrelude(request)) return begin(rawPrelude(request), head)
    const at = head.indexOf(DELIMITER)
    if (at === -1) return
    const prelude = parsePrelude(head.subarray(0, at))
    if (prelude) begin(prelude, head.subarray(at + DELIMITER.length))
    else end(new InvocationError('function_error', `${functionName}: its prelude is not JSON.`))
  })
  request.on('end', () => {
    const errorType = request.trailers['lambda-runtime-function-error-type']
    if (errorType) {
      return end(
        new InvocationError('function_error', `${functionName}: it broke off its answer.`, errorType),
      )
    }
    if (head && head.length > 0) {
      return end(new InvocationError('function_error', `${functionName}: its prelude has no end.`))
    }
    if (head) begin(rawPrelude(request), head)
    end()
  })
  request.on('close', () => {
    end(new InvocationError('environment_ended', `${functionName}: the connection broke mid-answer.`))
  })
  return body
}

function hasPrelude(request: IncomingMessage): boolean {
  return request.headers['content-type'] === INTEGRATION_CONTENT_TYPE
}

function rawPrelude(request: IncomingMessage): Prelude {
  // Also for a prelude that was never sent: from() followed by end() loses the status, here as on AWS.
  const contentType = hasPrelude(request) ? undefined : request.headers['content-type']
  return {
    statusCode: 200,
    headers: { 'content-type': contentType ?? 'application/octet-stream' },
    cookies: [],
  }
}

function parsePrelude(json: Buffer): Prelude | undefined {
  try {
    const { statusCode, headers, cookies } = JSON.parse(json.toString()) as Partial<Prelude>
    return { statusCode: statusCode ?? 200, headers: headers ?? {}, cookies: cookies ?? [] }
  } catch {
    return undefined
  }
}
