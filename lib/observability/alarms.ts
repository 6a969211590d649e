/**
 * Every alarm, as data. Its name is its section in docs/runbook.md. Alarms look every minute at the last whole window
 * of `periods` periods, and each series that one watches costs 0.10 USD a month.
 */
import type { Calculated, Series } from './series.ts'
import { signals } from './signals.ts'

export interface Alarm {
  /** A fault is for somebody to look at now. A signal says that the move to phase 2 pays, and wakes nobody. */
  kind: 'fault' | 'signal'
  /** One sentence, which the notification begins with. */
  meaning: string
  watches: Series | Calculated
  above?: number
  below?: number
  periodSeconds: number
  /** All of them in a row. */
  periods: number
  /** What it means when nothing is measured: in an idle environment nothing is, and that must be silent. */
  silence: 'ok' | 'alarm'
}

const MINUTE = 60
const DAY = 24 * 3_600
/** A share of fewer than this says nothing: one failure at night would be half of all. */
const ENOUGH = 10

/** What was not measured is 0. */
const sum = (names: string[]): string => names.map((name) => `FILL(${name}, 0)`).join(' + ')
/** Percent of the whole; 0 where the whole is too small. */
const percent = (part: string[], whole: string[]): string =>
  `IF(${sum(whole)} >= ${ENOUGH}, 100 * (${sum(part)}) / (${sum(whole)}), 0)`

const faults: Record<string, Alarm> = {
  'turn-not-saved': {
    kind: 'fault',
    meaning: 'Neither the queue nor the spool took a turn, and a client was told so.',
    watches: { metric: 'TurnNotSaved', by: 'chat', statistic: 'Sum' },
    above: 0,
    periodSeconds: MINUTE,
    periods: 1,
    silence: 'ok',
  },
  'save-lag': {
    kind: 'fault',
    meaning: 'Messages reach Postgres more than 5 minutes late, or do not reach it at all.',
    watches: { metric: 'SaveLag', by: 'persist', statistic: 'Maximum' },
    above: 5 * MINUTE * 1_000,
    // While Postgres is away an old message is tried, and measured, every 15 minutes: the window must hold a try.
    periodSeconds: 20 * MINUTE,
    periods: 1,
    silence: 'ok',
  },
  'queue-age': {
    kind: 'fault',
    meaning: 'Nobody takes messages from the turns queue.',
    watches: { aws: 'queueAge', of: 'turns', statistic: 'Maximum' },
    // A watch may be delayed for 15 minutes. What persist has received three times is not among these any more.
    above: 20 * MINUTE,
    periodSeconds: 5 * MINUTE,
    periods: 1,
    silence: 'ok',
  },
  'dead-letters': {
    kind: 'fault',
    meaning: 'A record could not be saved for what it is, and waits among the dead letters.',
    watches: { aws: 'queueDepth', of: 'turnsDead', statistic: 'Maximum' },
    above: 0,
    periodSeconds: 5 * MINUTE,
    periods: 1,
    silence: 'ok',
  },
  'job-dead-letters': {
    kind: 'fault',
    meaning: 'An export or an erasure of a user failed five times.',
    watches: { aws: 'queueDepth', of: 'jobsDead', statistic: 'Maximum' },
    above: 0,
    periodSeconds: 5 * MINUTE,
    periods: 1,
    silence: 'ok',
  },
  'schedule-dead-letters': {
    kind: 'fault',
    meaning: 'A schedule could not hand over a run to its function.',
    watches: { aws: 'queueDepth', of: 'schedulesDead', statistic: 'Maximum' },
    above: 0,
    periodSeconds: 5 * MINUTE,
    periods: 1,
    silence: 'ok',
  },
  'maintenance-stopped': {
    kind: 'fault',
    meaning: 'The run of every 5 minutes, which brings spooled turns back, does not take place.',
    watches: { aws: 'invocations', of: 'maintain', statistic: 'Sum' },
    below: 1,
    periodSeconds: 15 * MINUTE,
    periods: 2,
    silence: 'alarm', // it runs by the clock, also where nobody is
  },
  'answer-errors': {
    kind: 'fault',
    meaning: 'More than 5 % of the answers fail or are interrupted.',
    watches: {
      label: '% of answers',
      expression: percent(
        ['failed', 'interrupted', 'rescued'],
        ['complete', 'stopped', 'failed', 'interrupted', 'rescued'],
      ),
      of: {
        complete: { metric: 'AnswersComplete', by: 'chat', statistic: 'Sum' },
        stopped: { metric: 'AnswersStopped', by: 'chat', statistic: 'Sum' },
        failed: { metric: 'AnswersFailed', by: 'chat', statistic: 'Sum' },
        interrupted: { metric: 'AnswersInterrupted', by: 'chat', statistic: 'Sum' },
        rescued: { metric: 'AnswersInterrupted', by: 'persist', statistic: 'Sum' },
      },
    },
    above: 5,
    periodSeconds: 5 * MINUTE,
    periods: 2,
    silence: 'ok',
  },
  'request-errors': {
    kind: 'fault',
    meaning: 'More than 5 % of the requests are answered with a 5xx status.',
    watches: {
      label: '% of requests',
      expression: percent(['chatErrors', 'apiErrors'], ['chatRequests', 'apiRequests']),
      of: {
        chatErrors: { aws: 'serverErrors', of: 'chat', statistic: 'Sum' },
        apiErrors: { aws: 'serverErrors', of: 'api', statistic: 'Sum' },
        chatRequests: { aws: 'requests', of: 'chat', statistic: 'Sum' },
        apiRequests: { aws: 'requests', of: 'api', statistic: 'Sum' },
      },
    },
    above: 5,
    periodSeconds: 5 * MINUTE,
    periods: 2,
    silence: 'ok',
  },
  'time-to-first-token': {
    kind: 'fault',
    meaning: 'One answer in ten takes more than 3 seconds to begin.',
    watches: { metric: 'TimeToFirstToken', by: 'chat', statistic: 'p90' },
    above: 3_000,
    periodSeconds: 5 * MINUTE,
    periods: 3, // a database that wakes up spoils one
    silence: 'ok',
  },
  'archive-unreadable': {
    kind: 'fault',
    meaning: 'Archived messages that somebody needs are not what was written, or not there.',
    // Of chat, api, jobs and archive together (lambdas/runtime/metrics.ts).
    watches: { metric: 'ArchiveUnreadable', by: 'archive', statistic: 'Sum' },
    above: 0,
    periodSeconds: 5 * MINUTE,
    periods: 1,
    silence: 'ok',
  },
  'archive-failed': {
    kind: 'fault',
    meaning: 'Messages that are due did not leave for the archive; they stay in Postgres.',
    watches: { metric: 'ArchiveFailed', by: 'archive', statistic: 'Sum' },
    above: 0,
    periodSeconds: 5 * MINUTE,
    periods: 1,
    silence: 'ok',
  },
  'archive-overdue': {
    kind: 'fault',
    meaning: 'Run after run, a message that is due has not left for the archive in two days.',
    watches: { metric: 'OldestMessageOverdue', by: 'archive', statistic: 'Maximum' },
    // What its turn still stands for stays for a day, and what was changed while it was copied until the next run.
    above: 2 * DAY,
    periodSeconds: 5 * MINUTE,
    periods: 1,
    silence: 'ok',
  },
  'watched-words': {
    kind: 'fault',
    meaning: 'Many questions hold a watched word: users say that something is broken.',
    watches: { metric: 'WatchedWord', by: 'chat', statistic: 'Sum' },
    // One such question is an everyday thing in a help desk; so many in a quarter of an hour have one cause.
    above: 9,
    periodSeconds: 15 * MINUTE,
    periods: 1,
    silence: 'ok',
  },
  'function-errors': {
    kind: 'fault',
    meaning: 'A function crashed, ran out of time or memory, or threw what nobody expected.',
    watches: {
      label: 'errors',
      expression: sum(['chat', 'api', 'persist', 'maintain', 'archive', 'rotate']),
      of: {
        chat: { aws: 'errors', of: 'chat', statistic: 'Sum' },
        api: { aws: 'errors', of: 'api', statistic: 'Sum' },
        persist: { aws: 'errors', of: 'persist', statistic: 'Sum' },
        maintain: { aws: 'errors', of: 'maintain', statistic: 'Sum' },
        archive: { aws: 'errors', of: 'archive', statistic: 'Sum' },
        rotate: { aws: 'errors', of: 'rotate', statistic: 'Sum' },
      },
    },
    above: 0,
    periodSeconds: 5 * MINUTE,
    periods: 1,
    silence: 'ok',
  },
  'function-throttles': {
    kind: 'fault',
    meaning: 'Lambda refuses to run a function: the account is at its limit of concurrency.',
    // The limit is one for all, and running answers are what fills it.
    watches: { aws: 'throttles', of: 'chat', statistic: 'Sum' },
    above: 0,
    periodSeconds: 5 * MINUTE,
    periods: 1,
    silence: 'ok',
  },
}

export const alarms: Record<string, Alarm> = { ...faults, ...signals }
