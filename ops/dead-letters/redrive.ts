/**
 * Back to the turns queue, letter by letter. Not StartMessageMoveTask: it moves all or nothing, cannot leave what still
 * cannot be read, and the local queue does not know it.
 */
import { count, printable } from '../text.ts'
import { explain, isNamed, problemsOf, summarize } from './letter.ts'
import { tellOfOthers } from './list.ts'
import type { DeadLetterQueue, Letter } from './queue.ts'

type Outcome = 'sent' | 'would be sent' | 'refused' | 'failed' | 'died again'

/** All letters, or those that are named. */
export async function redrive(
  queue: DeadLetterQueue,
  names: readonly string[],
  { dryRun }: { dryRun: boolean },
  signal: AbortSignal,
): Promise<number> {
  await queue.checkTurnsQueue()
  const state = await queue.state()
  const outcomes: Outcome[] = []
  const missing = new Set(names)
  const sentAs = new Set<string>()
  let seen = 0

  const redriveOne = async (letter: Letter): Promise<void> => {
    const [outcome, why] = await move(queue, letter, sentAs, dryRun)
    outcomes.push(outcome)
    const { kind, tenants } = summarize(letter)
    const about = [outcome.padEnd(13), letter.id, kind, tenants.join(' '), why]
    console.log(printable(about.filter(Boolean).join('  ')))
  }

  for await (const letters of queue.look(signal)) {
    seen += letters.length
    const chosen = letters.filter((letter) => names.length === 0 || isNamed(letter, names))
    for (const { id, originalId } of chosen) for (const name of [id, originalId ?? '']) missing.delete(name)
    await Promise.all(chosen.map(redriveOne))
  }

  for (const name of missing) console.log(`${'not there'.padEnd(13)}  ${printable(name)}`)
  console.log(summaryOf(outcomes, dryRun))
  if (missing.size > 0 || outcomes.length === 0) tellOfOthers(state, seen)
  return missing.size === 0 && outcomes.every((outcome) => /sent$/.test(outcome)) ? 0 : 1
}

/**
 * Sends, then deletes once that is acknowledged. Killed in between, the record is in both queues: saving it twice
 * changes nothing.
 */
async function move(
  queue: DeadLetterQueue,
  letter: Letter,
  sentAs: Set<string>,
  dryRun: boolean,
): Promise<[Outcome, string?]> {
  // Persist may bury it anew while this still runs; sent once more, it would go round for ever.
  if (sentAs.has(letter.originalId ?? letter.id)) return ['died again', explain(letter)]
  const problems = problemsOf(letter)
  if (problems.length > 0) return ['refused', problems.join('; ')]
  if (dryRun) return ['would be sent']
  try {
    sentAs.add(await queue.send(letter))
  } catch (error) {
    return ['failed', `it stays: ${messageOf(error)}`]
  }
  try {
    await queue.delete(letter)
    return ['sent']
  } catch (error) {
    return ['failed', `sent, but its letter stays, too: ${messageOf(error)}`]
  }
}

const messageOf = (error: unknown): string =>
  error instanceof Error ? `${error.name}: ${error.message}` : String(error)

function summaryOf(outcomes: readonly Outcome[], dryRun: boolean): string {
  if (outcomes.length === 0) return 'No dead letter was moved.'
  const sent = outcomes.filter((outcome) => /sent$/.test(outcome)).length
  const rest = outcomes.length - sent
  const staying = rest > 0 ? `, ${rest} stay${rest === 1 ? 's' : ''}` : ''
  if (dryRun) return `\n${count(sent, 'dead letter')} would be sent back${staying}. Nothing was moved.`
  return `\n${count(sent, 'dead letter')} sent back${staying}. What dies again is listed again in a few seconds.`
}
