/** Writes rows into an embedded Postgres until it is killed, and prints a row's number when Postgres has accepted it. */
import { startPostgres } from '../../local/cloud/postgres.ts'

const [dataDir = ''] = process.argv.slice(2)
const postgres = await startPostgres({ dataDir })
await postgres.query('owner', 'create table if not exists written (n bigint, filler text)', [])
const { rows } = await postgres.query('owner', 'select coalesce(max(n), 0) from written', [])
for (let n = Number(rows[0]?.[0]) + 1; ; n++) {
  await postgres.query('owner', `insert into written values ($1::bigint, repeat('x', 2000))`, [String(n)])
  process.stdout.write(`${n}\n`)
}
