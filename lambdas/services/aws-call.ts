/**
 * A call to AWS that every turn makes several times, for half the processor time of the client's `send`, which puts its
 * middleware together, resolves its endpoint and walks its schemas anew each time. How a call is made is still up to the
 * client: docs/decisions.md says what is its and what is ours.
 */
interface Request {
  headers: Record<string, string>
  body?: unknown
  clone(): Request
}

interface Response {
  statusCode: number
  headers: Record<string, string>
  body: NodeJS.ReadableStream
}

/** The SDK's: it also follows the difference of AWS's clock, from what it is shown of the answers. */
interface Signer {
  sign(request: Request, identity: object, properties: object): Promise<Request>
  /** Throws the error, marked where the same request would now be signed with another time. */
  errorHandler(properties: object): (error: Error) => never
  successHandler(response: Response, properties: object): void
}

/** The SDK's: pauses with jitter, and a budget of retries for the whole client. */
interface RetryStrategy {
  acquireInitialRetryToken(scope: string): Promise<object>
  /** Waits; throws where it is not to be tried again. */
  refreshRetryTokenForRetry(token: object, failure: Failure): Promise<object>
  recordSuccess(token: object): void
}

interface Failure {
  errorType: 'TRANSIENT' | 'THROTTLING' | 'CLIENT_ERROR'
  retryAfterHint?: Date
}

/** What is used of a client of the SDK. */
export interface AwsClient {
  send(command: object): Promise<unknown>
  config: {
    credentials(): Promise<object>
    httpAuthSchemes: readonly { signer: object }[]
    requestHandler: { handle(request: Request): Promise<{ response: Response }> }
    retryStrategy(): Promise<object>
  }
}

/** By its events: an iterator over it costs each call more than its JSON. */
const textOf = (body: NodeJS.ReadableStream): Promise<string> =>
  new Promise((resolve, reject) => {
    let text = ''
    body.setEncoding('utf8')
    body.on('data', (chunk: string) => {
      text += chunk
    })
    body.on('end', () => resolve(text))
    body.on('error', reject)
  })

/** What is used of a command of the SDK. */
export interface AwsCommand<Input, Output> {
  input: Input
  middlewareStack: {
    addRelativeTo(
      middleware: () => (step: { request: unknown }) => Promise<{ response: object; output: Output }>,
      options: { relation: 'before'; toMiddleware: string },
    ): void
  }
}

/** AWS's refusal, with the names, the words and the fault that the SDK's own errors have. */
export class AwsError extends Error {
  readonly $fault: 'client' | 'server'
  readonly $metadata: { httpStatusCode: number; requestId?: string; clockSkewCorrected?: boolean }
  constructor(response: Response, body: string) {
    const { statusCode, headers } = response
    const { code, __type, message, Message } = parsed(body)
    super(message ?? Message ?? 'UnknownError')
    // The name stands last in `com.amazonaws.sqs#QueueDoesNotExist` and first in `BadRequestException:http://…`.
    this.name = `${headers['x-amzn-errortype'] ?? code ?? __type ?? 'Unknown'}`
      .replace(/[,:].*$/, '')
      .replace(/^.*#/, '')
    this.$fault = statusCode < 500 ? 'client' : 'server'
    this.$metadata = {
      httpStatusCode: statusCode,
      ...(headers['x-amzn-requestid'] && { requestId: headers['x-amzn-requestid'] }),
    }
    // Where the signer looks for AWS's time; hidden, as it is the SDK's errors, from whoever logs what an error holds.
    Object.defineProperty(this, '$response', { value: response })
  }
}

/** {} where something in between has answered, and not in JSON. */
function parsed(body: string): Partial<Record<'code' | '__type' | 'message' | 'Message', string>> {
  try {
    return JSON.parse(body) ?? {}
  } catch {
    return {}
  }
}

const NETWORK_ERRORS = new Set([
  'EAI_AGAIN',
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EPIPE',
  'ETIMEDOUT',
])

function failureOf(error: Error & { code?: string }): Failure {
  if (!(error instanceof AwsError)) {
    const unanswered = error.name === 'TimeoutError' || NETWORK_ERRORS.has(error.code ?? '')
    return { errorType: unanswered ? 'TRANSIENT' : 'CLIENT_ERROR' }
  }
  const { httpStatusCode, clockSkewCorrected } = error.$metadata
  if (httpStatusCode === 429 || /Throttl|TooManyRequests|LimitExceeded|SlowDown/.test(error.name))
    return { errorType: 'THROTTLING' }
  return { errorType: httpStatusCode >= 500 || clockSkewCorrected ? 'TRANSIENT' : 'CLIENT_ERROR' }
}

/**
 * The request that the client would send, before it is signed: method, endpoint, path and the headers that are the same
 * each time. Nothing leaves.
 */
async function requestOf<Input, Output>(
  client: AwsClient,
  command: AwsCommand<Input, Output>,
): Promise<Request> {
  let request: unknown
  command.middlewareStack.addRelativeTo(
    () => async (step) => {
      request = step.request
      return { response: {}, output: {} as Output }
    },
    // The first one that adds what belongs to one invocation of the function: the trace of whoever called it.
    { relation: 'before', toMiddleware: 'recursionDetectionMiddleware' },
  )
  await client.send(command)
  return request as Request
}

/**
 * Calls as `client.send` does, with the same request, attempts, pauses, time limits and refusals (AwsError; what the network
 * says, as it is). `example` is of the operation, and where its input names a place (a queue), of the place of all calls.
 * For operations that speak JSON and are given nothing but JSON. The trace of the invocation is not passed on.
 */
export function openAwsCall<Input, Output>(
  client: AwsClient,
  example: () => AwsCommand<Input, Output>,
): (input: Input) => Promise<Output> {
  const { config } = client
  const signer = config.httpAuthSchemes[0]?.signer as Signer
  let learned: Promise<Request> | undefined
  const learn = (): Promise<Request> =>
    (learned ??= requestOf(client, example()).catch((error) => {
      learned = undefined // The next call tries again.
      throw error
    }))

  async function attempt(body: Buffer): Promise<Output> {
    const request = (await learn()).clone()
    request.headers['content-length'] = String(body.length)
    request.body = body
    const signing = { config, context: {} }
    const signed = await signer.sign(request, await config.credentials(), signing)
    const { response } = await config.requestHandler.handle(signed)
    const answer = await textOf(response.body)
    if (response.statusCode >= 300) return signer.errorHandler(signing)(new AwsError(response, answer))
    signer.successHandler(response, signing)
    return JSON.parse(answer)
  }

  return async (input) => {
    // As a string it would be encoded three times: to be measured, signed and sent.
    const body = Buffer.from(JSON.stringify(input))
    const strategy = (await config.retryStrategy()) as RetryStrategy
    let token = await strategy.acquireInitialRetryToken('')
    for (;;) {
      try {
        const output = await attempt(body)
        strategy.recordSuccess(token)
        return output
      } catch (error) {
        const next = await strategy
          .refreshRetryTokenForRetry(token, failureOf(error as Error))
          .catch(() => undefined)
        if (next === undefined) throw error
        token = next
      }
    }
  }
}
