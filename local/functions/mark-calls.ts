import { AsyncLocalStorage } from 'node:async_hooks'
import { subscribe } from 'node:diagnostics_channel'
import type { ClientRequest } from 'node:http'
import { FUNCTION_HEADER } from '../function-header.ts'

/** In AWS a call is signed with its function's role. Here the functions share a process, so each call is marked. */
const running = new AsyncLocalStorage<string>()
/** Where the local cloud listens. A real model must not see the mark. */
const CLOUD_HOST = '127.0.0.1'

/** What `work` asks of the local cloud is asked in the name of this function, however late it asks. */
export function asFunction<Result>(name: string, work: () => Result): Result {
  return running.run(name, work)
}

/**
 * Marks, from now on, every request of node:http, which the AWS clients use. `alone` is the function's name where the
 * process has one only. One that waits for the service's word before it sends its body (S3, from 2 MB) has fixed its
 * headers already and stays unmarked.
 */
export function markCalls(alone?: string): void {
  subscribe('http.client.request.created', (message) => {
    const { request } = message as { request: ClientRequest }
    const name = running.getStore() ?? alone
    if (name && request.host === CLOUD_HOST && !request.headersSent) request.setHeader(FUNCTION_HEADER, name)
  })
}
