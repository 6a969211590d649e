import { Failure } from '../failures.ts'
import { printable, time } from '../text.ts'
import { explain, isNamed, problemsOf, record, summarize } from './letter.ts'
import { keptUntil, tellOfOthers } from './list.ts'
import type { DeadLetterQueue, Letter, QueueState } from './queue.ts'

export async function show(
  queue: DeadLetterQueue,
  name: string,
  { content }: { content: boolean },
  signal: AbortSignal,
): Promise<number> {
  const state = await queue.state()
  let seen = 0
  for await (const letters of queue.look(signal)) {
    seen += letters.length
    const letter = letters.find((one) => isNamed(one, [name]))
    if (letter) {
      print(letter, state, content)
      return 0
    }
  }
  if (signal.aborted) return 1
  tellOfOthers(state, seen)
  throw new Failure(`There is no dead letter ${name}.`)
}

function print(letter: Letter, state: QueueState, content: boolean): void {
  const { kind, tenants, messageIds, diedAt } = summarize(letter)
  const problems = problemsOf(letter)
  const lines = {
    id: letter.id,
    'original id': letter.originalId ?? 'the same',
    died: `${diedAt ? '' : 'after '}${time(letter.sentAt)}, kept until ${time(keptUntil(letter.sentAt, state))}`,
    reason: explain(letter),
    kind,
    tenant: tenants.join(' ') || '?',
    messages: messageIds.join(' ') || '?',
    received: `${letter.receives} times, looks included`,
    redrive: problems.length > 0 ? 'refused, because' : 'possible',
  }
  for (const [label, text] of Object.entries(lines)) console.log(`${label.padEnd(12)} ${printable(text)}`)
  for (const problem of problems) console.log(`${' '.repeat(13)}${printable(problem)}`)
  console.log(`\n${record(letter, content).split('\n').map(printable).join('\n')}`)
  if (!content) console.error('\n--content shows what people wrote, too.')
}
