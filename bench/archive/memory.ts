/** What a process has in memory, as Linux sees it. */
import { readFileSync } from 'node:fs'
import { setInterval as every } from 'node:timers/promises'

const MIB = 1024 * 1024
const EVERY_MS = 250

const inMib = (pid: number, name: 'VmRSS' | 'VmHWM'): number => {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const [, kilobytes = '0'] = new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status) ?? []
  return Math.round((Number(kilobytes) * 1024) / MIB)
}

export const residentMib = (pid: number): number => inMib(pid, 'VmRSS')
/** Since its start. */
export const peakMib = (pid: number): number => inMib(pid, 'VmHWM')

/** Looks until it is told to stop; then it gives what it saw, thinned out to `points`. */
export function watchMemory(pid: number, points: number): () => number[] {
  const seen: number[] = []
  const stop = new AbortController()
  const watch = async () => {
    for await (const _ of every(EVERY_MS, undefined, { signal: stop.signal })) seen.push(residentMib(pid))
  }
  watch().catch(() => undefined) // stopped
  return () => {
    stop.abort()
    const step = Math.max(1, Math.ceil(seen.length / points))
    return seen.filter((_, index) => index % step === 0)
  }
}
