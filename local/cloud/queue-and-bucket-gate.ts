import type { buildApp } from 'fauxqs'
import {
  type BucketCall,
  denial,
  type Gate,
  type Need,
  needOfList,
  needsOfBucketCall,
  needsOfQueueCall,
  refused,
} from './calls.ts'

type App = ReturnType<typeof buildApp>
type Request = {
  method: string
  headers: Record<string, string | string[] | undefined>
  params: unknown
  query: unknown
  body: unknown
}

const XML = 'application/xml'
const JSON_OF_SQS = 'application/x-amz-json-1.0'

/** Asks the gate before SQS or S3 does anything, and answers AccessDenied in their own words where it refuses. */
export function guard(app: App, gate: Gate, queueArn: (name: string) => string): void {
  app.addHook('preHandler', async (request, reply) => {
    const queueCall = operationOf(request)
    const need = refused(gate, request.headers, () =>
      queueCall
        ? needsOfQueueCall(queueCall, queueArn(queueOf(request)))
        : needsOfBucketCall(bucketCallOf(request)),
    )
    if (!need) return
    if (queueCall) return reply.code(403).type(JSON_OF_SQS).send(jsonDenial(need))
    return reply.code(403).type(XML).send(xmlDenial(need))
  })
  // With a callback, not a promise: fauxqs's handlers answer without waiting, and would answer a second time.
  app.addHook('onSend', (request, reply, payload, done) => {
    const { method, bucket, key } = bucketCallOf(request)
    const isMissing = reply.statusCode === 404 && key && ['GET', 'HEAD'].includes(method)
    const need = isMissing && refused(gate, request.headers, () => [needOfList(bucket)])
    if (!need) return done(null, payload)
    reply.code(403)
    done(null, method === 'HEAD' ? payload : xmlDenial(need))
  })
}

/** Undefined: a call to S3. */
function operationOf({ headers }: Request): string | undefined {
  return /^AmazonSQS\.(\w+)$/.exec(String(headers['x-amz-target']))?.[1]
}

function queueOf({ body }: Request): string {
  const { QueueUrl = '' } = body as { QueueUrl?: string }
  return QueueUrl.slice(QueueUrl.lastIndexOf('/') + 1)
}

function bucketCallOf({ method, params, query }: Request): BucketCall {
  const { bucket = '', '*': key = '' } = params as { bucket?: string; '*'?: string }
  return { method, bucket, key, query: query as Record<string, string> }
}

function jsonDenial(need: Need): object {
  return { __type: 'com.amazon.coral.service#AccessDeniedException', message: denial(need) }
}

function xmlDenial(need: Need): string {
  return `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code><Message>${denial(need)}</Message></Error>`
}
