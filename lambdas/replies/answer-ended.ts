/** What is reported of an answer that has ended. */
import type { Measure, Metric } from '../protocol/metrics.ts'
import type { MessageRecord } from '../protocol/queue.ts'
import type { Log } from './log.ts'
import type { AnswerMetadata } from './records.ts'
import type { Terminal } from './terminal.ts'

const outcomeOf = (terminal: Terminal): Metric => {
  if (terminal.type === 'done')
    return terminal.finishReason === 'stopped' ? 'AnswersStopped' : 'AnswersComplete'
  return terminal.code === 'interrupted' ? 'AnswersInterrupted' : 'AnswersFailed'
}

/**
 * One count and one line for each answer: for whoever has written its terminal event into the reply log, since only
 * one can. The line is what tokens and cost by tenant are added up from.
 */
export function answerEnded(
  { measure }: { measure: Measure },
  answer: MessageRecord,
  terminal: Terminal,
  log: Log,
): void {
  measure(outcomeOf(terminal), 1)
  const { promptTokens = 0 } = answer.metadata as Partial<AnswerMetadata>
  log.info('answer ended', {
    companyId: answer.company_id,
    platform: answer.platform,
    sessionId: answer.session_id,
    messageId: answer.id,
    model: answer.model,
    outcome: terminal.type === 'done' ? terminal.finishReason : terminal.code,
    promptTokens,
    completionTokens: answer.token_count ?? 0,
    ms: answer.response_time_ms,
  })
}
