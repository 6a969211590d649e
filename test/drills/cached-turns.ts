/** The turns that a cache holds, with their logs: read behind the product's back, by the names it gives its keys. */
import type { NumberedEvent, ReplyEvent } from '../../lambdas/protocol/chat.ts'
import { openValkey, type Reply, type Valkey } from '../../lambdas/services/valkey.ts'
import { unpack } from '../../lambdas/services/valkey-hot-store/values.ts'
import { valkeyOptions } from '../harness/hot-store.ts'
import type { Redis } from '../harness/redis.ts'
import type { StoredTurn } from './stored.ts'

const STATES = { r: 'running', c: 'closing', f: 'finished' } as const
/** The judge is in no hurry. */
const PATIENCE_MS = 10_000

function readEvents(entries: Reply): NumberedEvent[] {
  return (entries as [Buffer, [Buffer, Buffer]][]).flatMap(([id, [, body]]) => {
    const events = unpack<ReplyEvent[]>(body)
    const first = Number.parseInt(String(id), 10) - events.length
    return events.map((event, index) => ({ id: first + index, event }))
  })
}

/**
 * Those that a cache knows, oldest first; none where there is no cache. One whose opener died before it had written down
 * where it lies is left out: nobody has heard of it, and the next question of its thread ends it.
 */
export async function cachedTurns(redis: Redis | undefined): Promise<StoredTurn[]> {
  if (redis === undefined) return []
  const valkey = openValkey({ ...valkeyOptions(redis), commandMs: PATIENCE_MS, connectMs: PATIENCE_MS })
  try {
    return await readTurns(valkey, await redis.keys('tk:*:turn:*'))
  } finally {
    await valkey.close()
  }
}

async function readTurns(valkey: Valkey, keys: readonly string[]): Promise<StoredTurn[]> {
  const places = keys.map((key) => key.replace(/^(tk:\{[^:]*:[^:]*):.*:turn:([^:]*)$/, '$1:$2}:place'))
  const replies = await valkey.pipeline(
    keys.flatMap((key, index) => [
      { command: 'EXISTS', key: places[index] ?? '' },
      { command: 'HMGET', key, args: ['state', 'question_id', 'opened_at'] },
      { command: 'XRANGE', key: key.replace(/:turn:([^:]*)$/, ':log:$1'), args: ['-', '+'], bytes: true },
    ]),
  )
  const turns = keys.map((key, index) => {
    const [isFound, fields, log] = replies.slice(3 * index)
    const [state, questionId, openedAt] = fields as [keyof typeof STATES, string, string]
    return {
      isFound: isFound === 1,
      openedAt: Number(openedAt),
      messageId: key.slice(key.lastIndexOf(':') + 1),
      questionId,
      state: STATES[state],
      log: readEvents(log ?? []),
    }
  })
  return turns
    .filter(({ isFound, log }) => isFound || log.length > 0)
    .sort((one, other) => one.openedAt - other.openedAt)
    .map(({ isFound: _, openedAt: __, ...turn }) => turn)
}
