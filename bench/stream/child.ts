/** The side of a process that is measured: it says where it listens, what it holds in memory, and what it spends time on. */
import type { Server } from 'node:http'
import { type Profiler, Session } from 'node:inspector/promises'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { GCProfiler, getHeapStatistics } from 'node:v8'

export interface Memory {
  residentBytes: number
  /** What the collector could not free: objects, and buffers beside them. */
  usedBytes: number
}

export interface ToChild {
  type: 'memory' | 'allocations' | 'allocated' | 'profile' | 'profiled'
}
export type FromChild =
  | { type: 'listening'; url: string }
  | { type: 'memory'; memory: Memory }
  | { type: 'allocations' }
  | { type: 'allocated'; bytes: number }
  | { type: 'profile' }
  | { type: 'profiled'; profile: Profiler.Profile }

/** One collection may leave what finalisers hold; what they free goes with the next. */
const COLLECTIONS = 3
const BETWEEN_MS = 20
const SAMPLE_MICROSECONDS = 200

/** Listens on a free port of loopback, tells the parent, and ends with it. */
export function serve(server: Server): void {
  server.keepAliveTimeout = 0 // never: closing an idle connection races with the next request on it
  server.listen(0, '127.0.0.1', () => announce(`http://127.0.0.1:${(server.address() as AddressInfo).port}`))
}

export function announce(url: string): void {
  const session = new Session()
  let allocated = (): number => 0
  process.on('disconnect', () => process.exit(0))
  process.on('message', async ({ type }: ToChild) => {
    if (type === 'memory') tell({ type, memory: await memoryNow() })
    if (type === 'allocations') {
      allocated = countAllocations()
      tell({ type })
    }
    if (type === 'allocated') tell({ type, bytes: allocated() })
    if (type === 'profile') {
      session.connect()
      await session.post('Profiler.enable')
      await session.post('Profiler.setSamplingInterval', { interval: SAMPLE_MICROSECONDS })
      await session.post('Profiler.start')
      tell({ type })
    }
    if (type === 'profiled') {
      const { profile } = await session.post('Profiler.stop')
      session.disconnect()
      tell({ type, profile })
    }
  })
  tell({ type: 'listening', url })
}

const tell = (message: FromChild): void => void process.send?.(message)

async function memoryNow(): Promise<Memory> {
  for (let run = 0; run < COLLECTIONS; run += 1) {
    globalThis.gc?.()
    await sleep(BETWEEN_MS)
  }
  const { rss, heapUsed, external } = process.memoryUsage()
  return { residentBytes: rss, usedBytes: heapUsed + external }
}

/** From now on, and until what it returns is called: bytes on the heap, whatever the collector takes back meanwhile. */
function countAllocations(): () => number {
  const used = (): number => getHeapStatistics().used_heap_size
  const profiler = new GCProfiler()
  profiler.start()
  const from = used()
  return () => {
    const until = used()
    let before = from
    let bytes = 0
    for (const { beforeGC, afterGC } of profiler.stop().statistics) {
      bytes += beforeGC.heapStatistics.usedHeapSize - before
      before = afterGC.heapStatistics.usedHeapSize
    }
    return bytes + until - before
  }
}
