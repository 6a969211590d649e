/**
 * An AWS call that every turn makes several times, at a third of the processor time that the client's `send` takes. What decides
 * how it is made is the client's: endpoint and headers (learned from a request that it builds once), connections and
 * timeouts, credentials, signature, clock, number of attempts and pauses. Left out is what `send` does anew each time:
 * composing and walking some ten middlewares, resolving the endpoint, checking shapes both ways.
 */
import { text } from 'node:stream/consumers'

interface AwsRequest {
  headers: Record<string, string>
  body?: string
  clone(): AwsRequest
}

interface AwsResponse {
  statusCode: number
  headers: Record<string, string | undefined>
  body: NodeJS.ReadableStream
}

/** What is used of a client of the SDK. */
export interface AwsClient {
  // biome-ignore lint/suspicious/noExplicitAny: each client takes its own commands alone
  send(command: any): Promise<unknown>
  config: {
    requestHandler: { handle(request: never, options: object): Promise<{ response: unknown }> }
    httpAuthSchemes: readonly { signer: object }[]
    retryStrategy(): Promise<object>
  }
}

/** A command of the SDK: its input, and a place for one's own middleware. */
interface AwsCommand<Input, Output> {
  input: Input
  middlewareStack: { addRelativeTo(middleware: never, options: object): void }
  /** Only a type. */
  resolveMiddleware(...args: never[]): (...args: never[]) => Promise<{ output: Output }>
}
