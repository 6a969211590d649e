/** Of what answers beside the product. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { findPackageJSON } from 'node:module'
import pg from 'pg'
import { redisBinary } from '../test/harness/redis.ts'

export async function postgresVersion(url: string): Promise<string> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  const { rows } = await client.query('show server_version')
  await client.end()
  return rows[0].server_version
}

/** Of the one that is started, with its name where that is another; `none` where there is none. */
export function redisVersion(): string {
  if (!redisBinary) return 'none'
  const told = execFileSync(redisBinary, ['--version'], { encoding: 'utf8' })
  const version = /v=(\S+)/.exec(told)?.[1] ?? 'unknown'
  return redisBinary === 'redis-server' ? version : `${version} (${redisBinary})`
}

export function packageVersion(name: string): string {
  const file = findPackageJSON(name, import.meta.url)
  return file ? JSON.parse(readFileSync(file, 'utf8')).version : 'unknown'
}
