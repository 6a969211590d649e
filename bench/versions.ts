/** Of what answers beside the product. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { findPackageJSON } from 'node:module'
import pg from 'pg'

export async function postgresVersion(url: string): Promise<string> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  const { rows } = await client.query('show server_version')
  await client.end()
  return rows[0].server_version
}

/** `none` where it is not installed. */
export function redisVersion(): string {
  for (const binary of ['redis-server', 'valkey-server'])
    try {
      const told = execFileSync(binary, ['--version'], { encoding: 'utf8' })
      return /v=(\S+)/.exec(told)?.[1] ?? 'unknown'
    } catch {}
  return 'none'
}

export function packageVersion(name: string): string {
  const file = findPackageJSON(name, import.meta.url)
  return file ? JSON.parse(readFileSync(file, 'utf8')).version : 'unknown'
}
