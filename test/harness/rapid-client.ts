/**
 * Stands for `rapid-client.node`, the compiled part of aws-lambda-ric 4.0.2: its three functions over node:http, so
 * that the proof needs nothing but npm. As there, `done` and `error` tell nothing of how it went; and the next
 * invocation is asked for only when they are through.
 */
import { request } from 'node:http'

type Headers = Record<string, string | number>

const API = `http://${process.env.AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime/invocation`
/** What the native one passes on; the deadline as a number, the rest as text. */
const PASSED_ON = ['aws-request-id', 'trace-id', 'invoked-function-arn', 'client-context', 'cognito-identity']

let posted: Promise<unknown> = Promise.resolve()

export async function next(): Promise<{ bodyJson: string; headers: Headers }> {
  await posted
  const { body, headers } = await call('GET', '/next')
  const known = PASSED_ON.map((name) => `lambda-runtime-${name}`).filter(
    (name) => headers[name] !== undefined,
  )
  return {
    bodyJson: body,
    headers: {
      ...Object.fromEntries(known.map((name) => [name, String(headers[name])])),
      'lambda-runtime-deadline-ms': Number(headers['lambda-runtime-deadline-ms']),
    },
  }
}

export function done(id: string, body: string): void {
  posted = call('POST', `/${id}/response`, body)
}

/** The third one, for X-Ray, is of no use here. */
export function error(id: string, body: string): void {
  posted = call('POST', `/${id}/error`, body)
}

async function call(method: string, path: string, body = '') {
  const { promise, resolve, reject } = Promise.withResolvers<import('node:http').IncomingMessage>()
  request(API + path, {
    method,
    headers: body ? { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) } : {},
  })
    .on('response', resolve)
    .on('error', reject)
    .end(body)
  const response = await promise
  return { headers: response.headers, body: Buffer.concat(await response.toArray()).toString() }
}
