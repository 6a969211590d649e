/**
 * `npm run bench:archive`: how fast messages leave Postgres, what the archiver's process holds in memory while they do,
 * and how long others wait for its locks. A real Postgres, the embedded bucket, and the function in a process of its own.
 * Writes bench/results/archive-<date>.json.
 */
import { relative } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { createDatabase, startEmbeddedServer } from '../../test/harness/postgres-server.ts'
import { startTurnkeep } from '../../test/harness/turnkeep.ts'
import { connect } from '../connect.ts'
import { circumstances, keepResult, loadNow } from '../machine.ts'
import { apart, archive, measureArchive } from './section.ts'
import { MESSAGES_PER_SESSION, seed } from './seed.ts'
import { appendTo, type Delays } from './traffic.ts'

const { values } = parseArgs({
  options: { sizes: { type: 'string', default: '10000,30000,100000,300000,1000000' } },
})
const sizes = values.sizes.split(',').map(Number)
if (!sizes.every((size) => Number.isInteger(size) && size > 0))
  throw new Error('--sizes must be whole numbers above 0, between commas.')

/** Aurora has three quarters of its memory for it; the 128 MB that Postgres has unless told would measure the reading of files. */
const DATABASE_SETTINGS = { shared_buffers: '1GB', max_wal_size: '8GB' }
const BATCH_OF_TRAFFIC = { sessions: 40, old: 5_000 }
const QUIET_MS = 5_000

/** Of the last minute: what others did on this machine, which the figures are to be read with. */
const loadBefore = loadNow()
const measured = circumstances()
const server = await startEmbeddedServer(DATABASE_SETTINGS)
const figures = await measureArchive({ serverUrl: server.url, sizes })
const traffic = await measureTraffic()
for (const { messages, seconds, messagesPerSecond, peakMib: peak } of figures.sizes)
  console.log(`${messages} messages: ${seconds} s, ${messagesPerSecond} a second, at most ${peak} MiB`)
console.log('appends without the archiver:', traffic.without)
console.log('appends beside the archiver: ', traffic.beside)
const file = keepResult('archive', {
  measured,
  loadBefore,
  databaseSettings: DATABASE_SETTINGS,
  ...figures,
  traffic,
})
await server.close()
console.log(`\nWritten to ${relative(process.cwd(), file)}`)

async function measureTraffic(): Promise<{ messages: number; without: Delays; beside: Delays }> {
  const url = await createDatabase(server.url, 'bench_archive')
  const turnkeep = await startTurnkeep({ databaseUrl: url, host: apart })
  try {
    const messages = BATCH_OF_TRAFFIC.sessions * BATCH_OF_TRAFFIC.old
    await seed(url, 'bench', messages)
    const client = await connect(url, 'bench')
    // Few conversations that are long: most batches are of one that somebody is writing in.
    const { rows } = await client.query<{ id: string }>(
      `with kept as (select id, row_number() over (order by id) - 1 as place from chat_sessions order by id limit $1),
        every as (select id, row_number() over (order by id) as place from chat_sessions),
        moved as (
          update chat_messages m set session_id = k.id, sequence_number = m.sequence_number + ${MESSAGES_PER_SESSION} * (e.place / $1)::integer
          from every e join kept k on k.place = e.place % $1 where m.session_id = e.id
        )
      update chat_sessions s set last_active_at = now(), created_at = now() - interval '2 years' from kept where s.id = kept.id
      returning s.id`,
      [BATCH_OF_TRAFFIC.sessions],
    )
    await client.end()
    const sessions = rows.map(({ id }) => id)
    const quiet = await appendTo(url, 'bench', sessions)
    await sleep(QUIET_MS)
    const without = await quiet()
    const busy = await appendTo(url, 'bench', sessions)
    const archived = await archive(turnkeep)
    return { messages: archived.messages, without, beside: await busy() }
  } finally {
    await turnkeep.close()
  }
}
