/**
 * The global that Lambda's Node runtime gives to handlers, with its behaviour (aws-lambda-ric 4.0.2), down to
 * what surprises: the prelude leaves with the first `write`, so `from()` followed by `end()` loses the status.
 */
const HANDLER_STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming')
const INTEGRATION_CONTENT_TYPE = 'application/vnd.awslambda.http-integration-response'
const DELIMITER_BYTES = 8

type Write = (chunk: string | Uint8Array) => void
type UnderlyingStream = {
  setContentType(contentType: string): void
  _onBeforeFirstWrite?: (write: Write) => void
}

const awslambda = {
  streamifyResponse: <Handler extends object>(handler: Handler): Handler =>
    Object.assign(handler, { [HANDLER_STREAMING]: 'response' }),
  HttpResponseStream: {
    from: <Stream extends UnderlyingStream>(stream: Stream, prelude: unknown): Stream => {
      stream.setContentType(INTEGRATION_CONTENT_TYPE)
      const json = JSON.stringify(prelude)
      stream._onBeforeFirstWrite = (write) => {
        write(json)
        write(new Uint8Array(DELIMITER_BYTES))
      }
      return stream
    },
  },
}

/** Must run before the first handler is imported: wrapping one reads the global. */
export function provideAwslambda(): void {
  Object.assign(globalThis, { awslambda })
}

export function isStreaming(handler: object): boolean {
  return Reflect.get(handler, HANDLER_STREAMING) === 'response'
}
