/** Processor time of other processes, as Linux tells it. */
import { readdirSync, readFileSync } from 'node:fs'

/** USER_HZ, which is 100 wherever Node runs. */
const MS_PER_TICK = 10

interface Process {
  name: string
  parent: number
  /** Its own, and that of its children that have ended. */
  ms: number
}

function look(pid: number): Process | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const end = text.lastIndexOf(')') // a name may hold anything
    const fields = text.slice(end + 2).split(' ')
    const ticks = [11, 12, 13, 14].reduce((sum, at) => sum + Number(fields[at]), 0)
    return {
      name: text.slice(text.indexOf('(') + 1, end),
      parent: Number(fields[1]),
      ms: ticks * MS_PER_TICK,
    }
  } catch {
    return undefined // it has ended, or this is no Linux
  }
}

/** Of the threads that a process has now, to the microsecond; null where that cannot be seen. */
export function threadMs(pid: number): number | null {
  try {
    const threads = readdirSync(`/proc/${pid}/task`)
    const nanoseconds = threads.map(
      (thread) => readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0],
    )
    return nanoseconds.reduce((sum, text) => sum + Number(text), 0) / 1e6
  } catch {
    return null
  }
}

export const msOf = (pid: number): number | null => look(pid)?.ms ?? null

/** Of all processes with this name below a process; null where there is none. */
export function msBelow(ancestor: number, name: string): number | null {
  let pids: number[] = []
  try {
    pids = readdirSync('/proc')
      .filter((entry) => /^\d+$/.test(entry))
      .map(Number)
  } catch {}
  const processes = new Map(
    pids.flatMap((pid) => ((found) => (found ? [[pid, found] as const] : []))(look(pid))),
  )
  const isBelow = (pid: number): boolean =>
    pid === ancestor || (processes.has(pid) && isBelow(processes.get(pid)?.parent ?? 0))
  const found = [...processes].filter(([pid, process]) => process.name === name && isBelow(pid))
  return found.length === 0 ? null : found.reduce((sum, [, { ms }]) => sum + ms, 0)
}
