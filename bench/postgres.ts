/** The Postgres that is measured on: the one that DATABASE_URL names, or one that is started here. */
import { type PostgresServer, startPostgresServer } from '../test/harness/postgres-server.ts'
import { postgresVersion } from './versions.ts'

/** One that answers, or why there is none: what needs none is measured all the same. */
export async function findPostgres(): Promise<
  { server: PostgresServer; version: string } | { reason: string }
> {
  try {
    await using started = new AsyncDisposableStack() // ends it where its version cannot be asked
    const server = await startPostgresServer()
    started.defer(server.close)
    const version = await postgresVersion(server.url)
    started.move()
    return { server, version }
  } catch (error) {
    // A name with several addresses, none of which answers, has an error without words.
    const { message, code } = error as Error & { code?: string }
    return { reason: message || (code ?? 'unknown') }
  }
}
