/** After a drill every thread takes a new question, also those whose answer was interrupted. */
import { expect } from 'vitest'
import type { Turnkeep } from '../harness/turnkeep.ts'
import { questionText } from './drill-model.ts'
import { ask, type Sighting, sessionOf } from './returning-client.ts'

/** Of sessions that have had one turn. */
export async function expectThreadsToGoOn(cloud: Turnkeep, seen: readonly Sighting[]): Promise<void> {
  const sessions = new Set(seen.flatMap((sighting) => sessionOf(sighting)?.sessionId ?? []))
  const agent = cloud.as({ userId: 'agent', role: 'agent' })
  for (const sessionId of sessions) {
    const [, answer] = await agent.messages(sessionId)
    const question = questionText({ name: `after ${sessionId}`, pieces: 1, delayMs: 0 })
    const next = await ask(agent, { question, sessionId, returns: false })
    expect(next.events.at(-1)?.event).toMatchObject({ type: 'done', metadata: { sessionMessageCount: 4 } })
    const messages = await agent.messages(sessionId)
    expect(messages.map(({ sequenceNumber }) => sequenceNumber)).toEqual([1, 2, 3, 4])
    expect(messages[2]?.parentMessageId).toBe(answer?.messageId)
  }
}
