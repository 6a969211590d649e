/** Commands of ops/, as an operator's shell runs them. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { resolve } from 'node:path'
import { expect } from 'vitest'
import { COMPILE_CACHE } from '../../local/compile-cache.ts'

const OPS = resolve(import.meta.dirname, '../../ops/main.ts')

export interface Run {
  code: number | null
  out: string
  err: string
}

/** What an operator's shell may hold and no output ever does. */
export const SECRETS = {
  AWS_SECRET_ACCESS_KEY: 'the-secret-key-of-the-shell',
  AWS_SESSION_TOKEN: 'the-token-of-the-shell',
}

/** Without the test's own variables: an AWS profile of whoever runs the tests is neither used nor needed. */
export const ISOLATED = {
  PATH: process.env.PATH,
  ...COMPILE_CACHE,
  AWS_CONFIG_FILE: '/dev/null',
  AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
  AWS_EC2_METADATA_DISABLED: 'true',
  TURNKEEP_DATA_DIR: '/nonexistent',
}

export const WITH_CREDENTIALS = { AWS_ACCESS_KEY_ID: 'AKIAEXAMPLE', ...SECRETS }

export async function finished(child: ChildProcess): Promise<Run> {
  const text = { out: '', err: '' }
  child.stdout?.setEncoding('utf8').on('data', (chunk) => (text.out += chunk))
  child.stderr?.setEncoding('utf8').on('data', (chunk) => (text.err += chunk))
  const [code] = await once(child, 'close')
  for (const secret of Object.values(SECRETS)) expect(text.out + text.err).not.toContain(secret)
  return { code, ...text }
}

export const runOps = (
  args: readonly string[],
  variables: Record<string, string | undefined>,
): Promise<Run> =>
  finished(
    spawn(process.execPath, [OPS, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...ISOLATED, ...variables },
    }),
  )
