/** What costs seconds to make and is only read: made by whoever needs it first in a run of tests, and left to the others. */
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const SOMEBODY_ELSE_IS_AT_IT_MS = 100

/** The file or directory of that name below `directory`. `make` is told where to put it until it is whole. */
export async function madeOnce(
  directory: string,
  name: string,
  make: (unfinished: string) => Promise<void>,
): Promise<string> {
  const made = join(directory, name)
  const lock = `${made}.lock`
  const unfinished = `${made}.unfinished`
  while (!existsSync(made)) {
    if (!isMine(lock)) await sleep(SOMEBODY_ELSE_IS_AT_IT_MS)
    else
      try {
        if (existsSync(made)) break
        await make(unfinished)
        renameSync(unfinished, made)
      } finally {
        rmSync(lock, { recursive: true }) // after a failure the next one tries, and is told too
      }
  }
  return made
}

function isMine(lock: string): boolean {
  try {
    mkdirSync(lock)
    return true
  } catch {
    return false
  }
}
