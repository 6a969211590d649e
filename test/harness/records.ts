/** Message records as the reply core makes them. */
import { v7 as uuidv7 } from 'uuid'
import type { MessageRecord } from '../../lambdas/protocol/queue.ts'

export const record = (changes: Partial<MessageRecord> = {}): MessageRecord => ({
  company_id: 'acme',
  platform: 'web',
  id: uuidv7(),
  session_id: uuidv7(),
  thread_id: 'main',
  role: 'user',
  content: '안녕 😀',
  content_key: null,
  status: 'complete',
  token_count: 3,
  response_time_ms: null,
  model: null,
  sources: [],
  metadata: {},
  parent_message_id: null,
  sequence_number: 1,
  created_at: new Date().toISOString(),
  user_id: 'u1',
  ...changes,
})

/** A thread of questions and answers, one after the other. */
export function conversation(length: number, changes: Partial<MessageRecord> = {}): MessageRecord[] {
  const records: MessageRecord[] = []
  const shared = { session_id: uuidv7(), ...changes }
  for (let position = 1; position <= length; position += 1)
    records.push(
      record({
        ...shared,
        role: position % 2 === 1 ? 'user' : 'assistant',
        content: `message ${position}`,
        parent_message_id: records.at(-1)?.id ?? null,
        sequence_number: position,
        created_at: new Date(1_700_000_000_000 + position * 1_000).toISOString(),
      }),
    )
  return records
}
