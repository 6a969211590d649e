import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { startRuntimeClient } from '../../test/harness/runtime-client.ts'
import { threadMs } from '../processor.ts'

interface Subject {
  name: string
  taskRoot: string
  variables: Record<string, string>
}

/** Long enough for anything but a hang. */
const LIMIT_MS = 30_000

export interface Start {
  ms: number
  /** Of the processor, which other processes on the machine do not change much; NaN where it cannot be seen. */
  cpuMs: number
}

/** From the start of the process until it asks for its first invocation; it is ended then. */
export async function initialise({ name, taskRoot, variables }: Subject): Promise<Start> {
  const asked = Promise.withResolvers<void>()
  const server = createServer(async (request) => {
    if (request.method === 'GET')
      asked.resolve() // and is never answered
    else asked.reject(new Error(`${name} did not start: ${await text(request)}`))
  })
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  const { port } = server.address() as AddressInfo
  const startedAt = performance.now()
  const child = startRuntimeClient({
    name,
    taskRoot,
    handler: 'index.handler',
    memoryMb: 1_024,
    runtimeApi: `127.0.0.1:${port}`,
    variables: {
      AWS_REGION: 'us-east-1',
      AWS_ACCESS_KEY_ID: 'none',
      AWS_SECRET_ACCESS_KEY: 'none',
      ...variables,
    },
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => (output += chunk))
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()))
  void ended.then(() => asked.reject(new Error(`${name} ended before it was ready:\n${output}`)))
  const limit = setTimeout(
    () => asked.reject(new Error(`${name} is not ready after ${LIMIT_MS} ms`)),
    LIMIT_MS,
  )
  try {
    await asked.promise
    return { ms: performance.now() - startedAt, cpuMs: threadMs(child.pid ?? 0) ?? Number.NaN }
  } finally {
    clearTimeout(limit)
    child.kill('SIGKILL')
    await ended
    server.closeAllConnections()
    await new Promise((closed) => server.close(closed))
  }
}

async function text(request: IncomingMessage): Promise<string> {
  return Buffer.concat(await request.toArray()).toString()
}
