/**
 * Compares what clients saw with what is stored, character for character. Every drill ends here; what it finds is
 * named, so that a failing drill says which promise was broken for which answer.
 */
import { isDeepStrictEqual } from 'node:util'
import type { NumberedEvent } from '../../lambdas/protocol/chat.ts'
import type { Message } from '../../lambdas/protocol/messages.ts'
import { type Sighting, sessionOf, terminalOf, tokensOf } from './returning-client.ts'
import type { Stored, StoredTurn } from './stored.ts'

export interface Verdict {
  /** Each names a broken promise. Empty: all were kept. */
  violations: string[]
  /** Answers whose `done` a client saw, and those of them that are stored as it saw them. */
  promised: number
  kept: number
  interrupted: number
  duplicates: number
  /** Answers of which something that a client saw is not stored. */
  lost: number
}

export interface Leniency {
  /** The log was out of reach for a while: answers went on without it, and it may know less than clients do. */
  logMayLag?: boolean
}

const isTerminal = ({ event }: NumberedEvent): boolean => event.type === 'done' || event.type === 'error'

export function judge(
  sightings: readonly Sighting[],
  stored: Stored,
  { logMayLag = false }: Leniency = {},
): Verdict {
  const messages = new Map(stored.messages.map((message) => [message.messageId, message]))
  const turns = new Map(stored.turns.map((turn) => [turn.messageId, turn]))
  const asked = new Set(sightings.map(({ question }) => question))
  const violations: string[] = []
  const lost = new Set<string>()
  let promised = 0
  let kept = 0
  for (const sighting of sightings) {
    const about = sessionOf(sighting)?.messageId ?? sighting.question ?? 'a reader'
    const found = [
      ...sighting.problems,
      ...compareWithMessages(sighting, messages, logMayLag),
      ...(logMayLag ? [] : compareWithLog(sighting, turns)),
    ]
    violations.push(...found.map((problem) => `${about}: ${problem}`))
    if (found.some((problem) => problem.startsWith('lost'))) lost.add(about)
    if (terminalOf(sighting)?.type !== 'done' || sighting.question === undefined) continue
    promised += 1
    if (found.length === 0) kept += 1
  }
  const repeated = duplicatesIn(stored)
  violations.push(...repeated, ...stored.turns.flatMap((turn) => checkTurn(turn, messages, logMayLag)))
  violations.push(...checkPositions(messages), ...checkRows(stored, messages))
  if (stored.deadLetters > 0) violations.push(`${stored.deadLetters} good records were dead-lettered`)
  return {
    violations,
    promised,
    kept,
    interrupted: stored.messages.filter(
      ({ status, parentMessageId }) =>
        status === 'interrupted' && asked.has(messages.get(parentMessageId ?? '')?.content),
    ).length,
    duplicates: repeated.length,
    lost: lost.size,
  }
}

function compareWithMessages(sighting: Sighting, messages: Map<string, Message>, mayLag: boolean): string[] {
  const session = sessionOf(sighting)
  const terminal = terminalOf(sighting)
  if (session === undefined) return []
  const question = messages.get(session.userMessageId)
  const answer = messages.get(session.messageId)
  const text = tokensOf(sighting.events)
  const problems: string[] = []
  if (text !== '' && question === undefined) problems.push('lost: its question is not stored')
  if (question && sighting.question !== undefined && question.content !== sighting.question)
    problems.push('lost: its question is stored otherwise than it was asked')
  if (answer === undefined) problems.push(`lost: no answer is stored, after ${terminal?.type ?? 'a cut'}`)
  else if (!answer.content.startsWith(text))
    problems.push(
      `lost: ${text.length} characters were seen, ${answer.content.length} others are stored (${answer.status})`,
    )
  else if (terminal?.type === 'done') {
    const status = terminal.finishReason === 'stopped' ? 'stopped' : 'complete'
    if (answer.content !== text) problems.push('done left out a part of what is stored')
    if (answer.status !== status) problems.push(`lost: done was seen, and the answer is ${answer.status}`)
  } else if (terminal?.type === 'error' && terminal.code === 'interrupted' && !mayLag) {
    if (answer.content !== text) problems.push('interrupted left out a part of what is stored')
    if (answer.status !== 'interrupted') problems.push(`interrupted was seen, stored is ${answer.status}`)
  }
  return problems
}

function compareWithLog(sighting: Sighting, turns: Map<string, StoredTurn>): string[] {
  const session = sessionOf(sighting)
  if (session === undefined) return []
  const log = turns.get(session.messageId)?.log ?? []
  const different = sighting.events.filter(({ id, event }) => !isDeepStrictEqual(log[id]?.event, event))
  return different.map(({ id }) => `event ${id} is not what the log says`)
}

function checkTurn({ messageId, state, log }: StoredTurn, messages: Map<string, Message>, mayLag: boolean) {
  const problems: string[] = []
  const answer = messages.get(messageId)
  const terminals = log.filter(isTerminal)
  if (state !== 'finished') problems.push(`still ${state}`)
  if (log.some(({ id }, index) => id !== index)) problems.push('the log has a gap or a repetition')
  if (terminals.length !== 1) problems.push(`${terminals.length} terminal events in the log`)
  else if (!isTerminal(log.at(-1) as NumberedEvent)) problems.push('the log goes on after its terminal event')
  if (answer === undefined) problems.push('its answer is not stored')
  else if (!mayLag) {
    if (answer.content !== tokensOf(log)) problems.push('the log and the message have different texts')
    const last = terminals[0]?.event
    if (last?.type === 'done' && answer.status === 'interrupted')
      problems.push('done in the log, interrupted in the table')
    if (last?.type === 'error' && last.code === 'interrupted' && answer.status !== 'interrupted')
      problems.push(`interrupted in the log, ${answer.status} in the table`)
  }
  return problems.map((problem) => `turn ${messageId}: ${problem}`)
}

/** A question is one message, and has one answer: no drill regenerates. */
function duplicatesIn({ messages, turns }: Stored): string[] {
  const count = new Map<string, number>()
  const add = (what: string): void => void count.set(what, (count.get(what) ?? 0) + 1)
  for (const { role, content, parentMessageId } of messages)
    add(role === 'user' ? `the question “${content.slice(0, 80)}”` : `the answer to ${parentMessageId}`)
  for (const { questionId } of turns) add(`the turn of ${questionId}`)
  return [...count].filter(([, times]) => times > 1).map(([what, times]) => `${times} times ${what}`)
}

function checkPositions(messages: Map<string, Message>): string[] {
  return [...messages.values()].flatMap(({ messageId, role, sequenceNumber, parentMessageId }) => {
    const parent = parentMessageId === null ? undefined : messages.get(parentMessageId)
    if (parentMessageId !== null && parent === undefined) return `${messageId}: its parent is not stored`
    if (parent?.role === role) return `${messageId}: a ${role} follows a ${role}`
    const due = (parent?.sequenceNumber ?? 0) + 1
    return sequenceNumber === due ? [] : `${messageId}: at position ${sequenceNumber} where ${due} was due`
  })
}

/** In the end everything has to stand in the table itself. */
function checkRows({ rows }: Stored, messages: Map<string, Message>): string[] {
  const byId = new Map(rows.map((row) => [row.id, row]))
  return [...messages.values()].flatMap(({ messageId, content, status }) => {
    const row = byId.get(messageId)
    if (row === undefined) return `${messageId}: lost: readable, but not in the table`
    if (row.status !== status || (row.content_key === null && row.content !== content))
      return `${messageId}: the table has another version than readers get`
    return []
  })
}
