import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { MessageStatus } from '../../lambdas/protocol/messages.ts'
import type { MessageRecord } from '../../lambdas/protocol/queue.ts'
import { ACME } from '../harness/turnkeep.ts'
import { type DrillCloud, rounds, startDrillCloud } from './drill-cloud.ts'
import { enter } from './table.ts'

const RUNS = rounds(100, 15)
const RANK: Record<MessageStatus, number> = { interrupted: 1, stopped: 2, complete: 3 }

let cloud: DrillCloud
beforeAll(async () => {
  cloud = await startDrillCloud({ name: 'shuffled' })
})
afterAll(() => cloud.close())

/** A conversation, each answer in one or more versions: its writer's, and those of rescuers. */
const conversation = fc.array(
  fc.uniqueArray(fc.constantFrom<MessageStatus>('interrupted', 'stopped', 'complete'), { minLength: 1 }),
  { minLength: 1, maxLength: 4 },
)

function recordsOf(versions: MessageStatus[][], tenant: typeof ACME): MessageRecord[] {
  const sessionId = randomUUID()
  let parent: string | null = null
  let position = 0
  const record = (role: 'user' | 'assistant', id: string, status: MessageStatus): MessageRecord => ({
    company_id: tenant.companyId,
    platform: tenant.platform,
    id,
    session_id: sessionId,
    thread_id: 'main',
    role,
    content: `${role} ${position} ${status} 🙂`,
    content_key: null,
    status,
    token_count: position,
    response_time_ms: role === 'user' ? null : RANK[status] * 10,
    model: role === 'user' ? null : 'drill',
    sources: [],
    metadata: { status },
    parent_message_id: parent,
    sequence_number: position,
    created_at: new Date(Date.UTC(2026, 0, 1, 0, 0, position)).toISOString(),
    user_id: 'u1',
  })
  return versions.flatMap((statuses) => {
    const [question, answer] = [randomUUID(), randomUUID()]
    position += 1
    const records = [record('user', question, 'complete')]
    parent = question
    position += 1
    records.push(...statuses.map((status) => record('assistant', answer, status)))
    parent = answer
    return records
  })
}

const delivery = (record: MessageRecord) => ({
  messageId: randomUUID(),
  receiptHandle: 'none',
  body: JSON.stringify({ records: [record] }),
  attributes: { ApproximateReceiveCount: '1', SentTimestamp: String(Date.now()) },
})

test('every message twice, in any order and any split, gives the same rows', {
  timeout: 300_000,
}, async () => {
  let delivered = 0
  const property = fc.asyncProperty(
    fc.array(conversation, { minLength: 1, maxLength: 4 }),
    fc.infiniteStream(fc.nat()),
    async (conversations, chance) => {
      const draw = (below: number): number => Number(chance.next().value) % below
      const records = conversations.flatMap((versions, index) =>
        recordsOf(versions, index % 2 === 0 ? ACME : { ...ACME, companyId: 'other' }),
      )
      const queue = [...records, ...records]
      for (let at = queue.length - 1; at > 0; at -= 1) {
        const other = draw(at + 1)
        ;[queue[at], queue[other]] = [queue[other] as MessageRecord, queue[at] as MessageRecord]
      }
      delivered += queue.length
      while (queue.length > 0) {
        const Records = queue.splice(0, 1 + draw(queue.length)).map(delivery)
        const answer = await cloud.cloud.runtimeApi.invoke('persist', JSON.stringify({ Records }))
        expect(JSON.parse(answer.toString())).toEqual({ batchItemFailures: [] })
      }
      await compare(records)
    },
  )
  await fc.assert(property, {
    numRuns: RUNS,
    ...(process.env.DRILL_SEED && { seed: Number(process.env.DRILL_SEED) }),
  })
  const fault = 'delivered twice, shuffled, split'
  enter({
    fault,
    rounds: RUNS,
    inFlight: delivered,
    promised: 0,
    kept: 0,
    interrupted: 0,
    duplicates: 0,
    lost: 0,
  })
})

/** The best version of each message, whatever came first. */
async function compare(records: readonly MessageRecord[]): Promise<void> {
  const best = new Map<string, MessageRecord>()
  for (const record of records) {
    const known = best.get(record.id)
    if (!known || RANK[record.status] > RANK[known.status]) best.set(record.id, record)
  }
  for (const companyId of ['acme', 'other']) {
    const expected = [...best.values()].filter(({ company_id }) => company_id === companyId)
    if (expected.length === 0) continue
    const sessions = [...new Set(expected.map(({ session_id }) => session_id))]
    const rows = await cloud.rows<MessageRecord & { created_at: Date }>(
      `select company_id, platform, id, session_id, thread_id, role, content, content_key, status, token_count,
        response_time_ms, model, sources, metadata, parent_message_id, sequence_number, created_at
      from chat_messages where session_id in (${sessions.map((id) => `'${id}'`).join()})`,
      { ...ACME, companyId },
    )
    const byId = (one: { id: string }, other: { id: string }) => one.id.localeCompare(other.id)
    expect(
      rows.map((row) => ({ ...row, created_at: row.created_at.toISOString(), user_id: 'u1' })).sort(byId),
    ).toEqual(expected.sort(byId))
    // Not compared: a session's message_count, which the turn's own opening and closing keep.
    const [count] = await cloud.rows<{ count: string }>(
      `select count(*) from chat_sessions where id in (${sessions.map((id) => `'${id}'`).join()}) and user_id = 'u1'`,
      { ...ACME, companyId },
    )
    expect(Number(count?.count)).toBe(sessions.length)
  }
}
