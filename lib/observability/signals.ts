/**
 * The signals of the move to phase 2, as data: alarms are made of them, and `npm run ops -- phase` reads the same metrics by
 * the same statistics against the same thresholds.
 */
import type { Alarm } from './alarms.ts'

const MINUTE = 60
const DAY = 24 * 60 * MINUTE

export interface Signal extends Alarm {
  above: number
  /** For people: `one` of the unit is so much of what is measured. */
  unit: { name: string; one: number }
}

const MS = { name: 'ms', one: 1 }
const USERS = { name: 'users', one: 1 }

export const signals: Record<string, Signal> = {
  'slow-session-lookup': {
    kind: 'signal',
    meaning: 'One session look-up in ten takes more than 50 ms.',
    watches: { metric: 'SessionLookupTime', by: 'chat', statistic: 'p90' },
    above: 50,
    unit: MS,
    periodSeconds: 5 * MINUTE,
    periods: 3,
    silence: 'ok',
  },
  'database-load': {
    kind: 'signal',
    meaning: 'The database uses more than 80 % of the capacity that it may grow to.',
    watches: { aws: 'databaseLoad', of: 'writer', statistic: 'Average' },
    above: 80,
    unit: { name: '%', one: 1 },
    periodSeconds: 5 * MINUTE,
    periods: 3,
    silence: 'ok',
  },
  'concurrent-users': {
    kind: 'signal',
    meaning: 'More than 200 users have asked something within 5 minutes.',
    watches: { metric: 'ActiveUsers', by: 'persist', statistic: 'Maximum' },
    above: 200,
    unit: USERS,
    periodSeconds: 10 * MINUTE, // measured every 5 minutes
    periods: 1,
    silence: 'ok',
  },
  'session-operations': {
    kind: 'signal',
    meaning: 'Answers ask for more than 100 session operations a second.',
    // In phase 1 each is one call of the Data API.
    watches: { metric: 'HotStoreTime', by: 'chat', statistic: 'SampleCount' },
    above: 100 * MINUTE,
    unit: { name: 'a second', one: MINUTE },
    periodSeconds: MINUTE,
    periods: 5,
    silence: 'ok',
  },
  'monthly-users': {
    kind: 'signal',
    meaning: 'More than 1,000 users have asked something within 30 days.',
    watches: { metric: 'MonthlyUsers', by: 'persist', statistic: 'Maximum' },
    above: 1_000,
    unit: USERS,
    periodSeconds: DAY,
    periods: 1,
    silence: 'ok',
  },
  'expected-hit-ratio': {
    kind: 'signal',
    meaning: 'A cache would have held more than 70 % of the sessions that were asked for.',
    watches: { metric: 'KnownSession', by: 'chat', statistic: 'Average' },
    above: 0.7,
    unit: { name: '%', one: 0.01 },
    periodSeconds: DAY, // the first question of a morning is one of many
    periods: 1,
    silence: 'ok',
  },
}
