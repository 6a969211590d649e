/**
 * `npm run bench:lookup`: the hot store alone. Writes bench/results/lookup-<date>.json, and fails where opening a turn takes
 * longer than docs/phase-two.md aims at.
 */
import { relative } from 'node:path'
import { parseArgs } from 'node:util'
import { SHARED_SERVER, startPostgresServer } from '../../test/harness/postgres-server.ts'
import { circumstances, keepResult } from '../machine.ts'
import { postgresVersion, redisVersion } from '../versions.ts'
import { isMissed, measureLookup, printLookup } from './section.ts'

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '200' } } })
const rounds = Number(values.rounds)
if (!Number.isInteger(rounds) || rounds < 1) throw new Error('--rounds must be a whole number above 0.')

const server = await startPostgresServer()
process.env[SHARED_SERVER] = server.url
try {
  const versions = { postgres: await postgresVersion(server.url), redis: redisVersion() }
  const measured = { ...circumstances(), rounds, ...versions }
  const { figures } = await measureLookup({ rounds })
  printLookup({ rounds, figures })
  console.log(`\nWritten to ${relative(process.cwd(), keepResult('lookup', { measured, figures }))}`)
  if (figures.some(isMissed)) process.exitCode = 1
} finally {
  await server.close()
}
