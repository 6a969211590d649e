/** What the model says in a drill: every piece names its answer and its place, so that a gap or a mix-up shows. */
import type { ChatRequest, Script } from '../../local/model/scripted-model.ts'

export interface Question {
  /** Unique in the drill. */
  name: string
  pieces: number
  delayMs: number
  /** Characters of filling in each piece; for answers that are too large for a row. */
  filling?: number
}

export const questionText = ({ name, pieces, delayMs, filling = 0 }: Question): string =>
  `질문 «${name}» pieces=${pieces} delay=${delayMs} filling=${filling}`

/** An idempotency key for it, which may hold ASCII alone. */
export const keyOf = (question: string): string => `key ${question.slice(0, 100).replace(/[^ -~]/g, '')}`

export const nameOf = (text: string): string | undefined => /«(.*?)»/.exec(text)?.[1]

export function answerPieces({ name, pieces, filling = 0 }: Question): string[] {
  return Array.from({ length: pieces }, (_, index) => `${name}/${index} 조각🙂${'가'.repeat(filling)}\n`)
}

export function drillModel({ messages }: ChatRequest): Script {
  const asked = messages.findLast(({ role }) => role === 'user')?.content ?? ''
  const [, pieces = '3', delay = '0', filling = '0'] =
    /pieces=(\d+) delay=(\d+) filling=(\d+)/.exec(asked) ?? []
  const question = {
    name: nameOf(asked) ?? 'nameless',
    pieces: Number(pieces),
    delayMs: Number(delay),
    filling: Number(filling),
  }
  return { content: answerPieces(question), tokenDelayMs: question.delayMs }
}
