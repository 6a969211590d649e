import { count, printable, table, time } from '../text.ts'
import { type Summary, summarize } from './letter.ts'
import { type DeadLetterQueue, HOLD_SECONDS, type Letter, type QueueState } from './queue.ts'

export async function list(queue: DeadLetterQueue, { json }: { json: boolean }, signal: AbortSignal) {
  const state = await queue.state()
  const summaries: Summary[] = []
  for await (const letters of queue.look(signal)) summaries.push(...letters.map(summarize))
  summaries.sort((a, b) => a.sentAt.localeCompare(b.sentAt) || a.id.localeCompare(b.id))
  if (json) console.log(JSON.stringify(summaries, null, 2).split('\n').map(printable).join('\n'))
  else if (summaries.length === 0) console.log('There are no dead letters.')
  else console.log(`${table(summaries.map(toRow))}\n\n${footer(summaries, state)}`)
  tellOfOthers(state, summaries.length)
  return 0
}

function toRow(summary: Summary): Record<string, string> {
  const [first = '', ...more] = summary.messageIds
  return {
    id: summary.id,
    died: `${summary.diedAt ? '' : 'after '}${time(Date.parse(summary.sentAt))}`,
    reason: summary.reason ?? 'too many receives',
    kind: summary.kind,
    tenant: summary.tenants.join(' ') || '?',
    messages: more.length > 0 ? `${first} +${more.length}` : first || '?',
    received: String(summary.receives),
  }
}

function footer(summaries: Summary[], state: QueueState): string {
  const oldest = keptUntil(Date.parse(summaries[0]?.sentAt ?? ''), state)
  return `${count(summaries.length, 'dead letter')}. SQS keeps the oldest until ${time(oldest)}.`
}

export const keptUntil = (sentAt: Letter['sentAt'], { retentionSeconds }: QueueState): number =>
  sentAt + retentionSeconds * 1_000

/** A letter that another reader holds cannot be seen; saying nothing of it would look like a loss. */
export function tellOfOthers({ letters }: QueueState, seen: number): void {
  if (letters > seen)
    console.error(
      `SQS counts about ${count(letters, 'letter')}, ${seen} could be seen: another reader may hold the others. Those come back within ${HOLD_SECONDS} s.`,
    )
}
