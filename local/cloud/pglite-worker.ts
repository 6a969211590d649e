/**
 * PGlite on its own thread, because it computes on the thread it lives on and a slow statement there would stop
 * every stream of the process. Speaks the wire protocol on a loopback port, for the Data API's pool and for psql.
 */

import { once } from 'node:events'
import { openAsBlob } from 'node:fs'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { parentPort, workerData } from 'node:worker_threads'
import { PGlite } from '@electric-sql/pglite'
import { vector } from '@electric-sql/pglite-pgvector'
import { PGLiteSocketHandler, type PGLiteSocketHandlerOptions } from '@electric-sql/pglite-socket'
import { shareBackend } from './pglite-sessions.ts'
import { errorResponse } from './pglite-wire.ts'

export type PgliteWorkerData = {
  dataDir: string | undefined
  beginWith: string | undefined
  port: number
  owner: string
}
export type PgliteReady = { port: number }

const MAX_CONNECTIONS = 20

// The owner is what the master user is on RDS: no superuser, but it may make roles. pgvector is made for it, because
// this build of the extension, unlike the one on RDS, wants a superuser.
const ownerSql = (owner: string) => `
  do $$ begin
    if not exists (select from pg_roles where rolname = '${owner}') then
      create role ${owner} login createrole createdb;
    end if;
  end $$;
  alter database postgres owner to ${owner};
  create extension if not exists vector;`

async function serve({ dataDir, beginWith, port, owner }: PgliteWorkerData) {
  const db = await PGlite.create({
    ...(dataDir && { dataDir }),
    ...(beginWith && { loadDataDir: await openAsBlob(beginWith) }),
    extensions: { vector },
  })
  await db.exec(ownerSql(owner))
  const connections = new Map<number, { handler: PGLiteSocketHandler; socket: Socket }>()
  const backend = shareBackend(db, {
    defaultUser: owner,
    evict: (id) => {
      connections.get(id)?.socket.write(IDLE_TRANSACTION_ERROR)
      void connections.get(id)?.handler.detach(true)
    },
  })
  const server = createServer((socket) => {
    // The class of its queue is not exported, but only what is called on it matters.
    const handler = new PGLiteSocketHandler({
      queryQueue: backend as unknown as PGLiteSocketHandlerOptions['queryQueue'],
      closeOnDetach: true,
    })
    connections.set(handler.handlerId, { handler, socket })
    socket.once('close', () => connections.delete(handler.handlerId))
    void handler.attach(socket)
  })
  server.maxConnections = MAX_CONNECTIONS
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  parentPort?.postMessage({ port: (server.address() as AddressInfo).port } satisfies PgliteReady)

  await once(parentPort as NonNullable<typeof parentPort>, 'message') // the only one there is: stop
  server.close()
  await Promise.all([...connections.values()].map(({ handler }) => handler.detach(true)))
  await db.close()
}

/** ErrorResponse as Postgres sends it for idle_in_transaction_session_timeout. */
const IDLE_TRANSACTION_ERROR = errorResponse({
  S: 'FATAL',
  V: 'FATAL',
  C: '25P03',
  M: 'terminating connection due to idle-in-transaction timeout: the embedded Postgres has one session for all',
})

await serve(workerData as PgliteWorkerData)
