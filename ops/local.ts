/** The Turnkeep that runs on this machine. */
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

export type Variables = Record<string, string | undefined>

const ROOT = resolve(import.meta.dirname, '..')

/**
 * What the cloud process leaves in the data directory (local/cloud/main.ts): names and addresses by their variables.
 * `found` is undefined where none runs.
 */
export function readLocal(variables: Variables): { file: string; found: Variables | undefined } {
  const file = join(resolve(variables.TURNKEEP_DATA_DIR || join(ROOT, '.turnkeep')), 'local.json')
  try {
    return { file, found: JSON.parse(readFileSync(file, 'utf8')) }
  } catch {
    return { file, found: undefined }
  }
}

export const isOnThisMachine = (url: string): boolean =>
  /^(127\.\d+\.\d+\.\d+|localhost|\[::1\])$/.test(new URL(url).hostname)
