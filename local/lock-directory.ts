import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

/**
 * Holds a directory for this process, under a name. Returns false when another process still has it after
 * `waitMs`. The lock is SQLite's own on an empty file: the system takes it back however the process ends, so
 * that there is nothing stale to clean up.
 */
export function lockDirectory(directory: string, name: string, waitMs = 0): boolean {
  mkdirSync(directory, { recursive: true })
  const lock = new DatabaseSync(join(directory, `${name}.lock`))
  lock.exec(`PRAGMA busy_timeout = ${waitMs}`)
  try {
    lock.exec('BEGIN EXCLUSIVE')
  } catch (error) {
    lock.close()
    if (error instanceof Error && /locked/.test(error.message)) return false
    throw error
  }
  held.push(lock)
  return true
}

/** Kept, or they would be collected and with them the locks. */
const held: DatabaseSync[] = []
