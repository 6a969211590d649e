/** Every metric and its unit. docs/runbook.md says what each means; dashboards and alarms are made of them. */
export const metricUnits = {
  /** From a request's arrival at the function until its first token may leave. */
  TimeToFirstToken: 'Milliseconds',
  /** From the call of the model to its first text, all attempts together. */
  ModelTimeToFirstToken: 'Milliseconds',
  /** From a request's arrival at the function until its last event may leave. */
  AnswerTime: 'Milliseconds',
  // Each answer is one of these, once: counted by whoever writes its last event into the reply log.
  AnswersComplete: 'Count',
  AnswersStopped: 'Count',
  /** Kept as far as it came. */
  AnswersInterrupted: 'Count',
  /** Any other error: the model never spoke, nothing took the answer, or the fault is ours. */
  AnswersFailed: 'Count',
  /** A question held a watched word. */
  WatchedWord: 'Count',

  /** One operation of the hot store that was answered, whatever it stands on. */
  HotStoreTime: 'Milliseconds',
  /** The hot store opened a turn: session, thread, history. */
  SessionLookupTime: 'Milliseconds',
  /** 1: the turn's session had been used within a day, so a cache would have had it. 0: it had not. */
  KnownSession: 'Count',
  /** One append to a reply log, acknowledged. */
  LogAppendTime: 'Milliseconds',
  /** An append failed, and the answer went on without its log. */
  ReplyLogUnreachable: 'Count',

  /** The queue refused, the spool took it. */
  TurnSpooled: 'Count',
  /** Neither took it: a client was told `not_saved`. */
  TurnNotSaved: 'Count',
  /** A writer was gone, and its turn was ended for it. */
  TurnRescued: 'Count',
  /** A record was refused for itself. */
  RecordDeadLettered: 'Count',
  /** How long a message had been there when its save was acknowledged, or has been when a save has failed. */
  SaveLag: 'Milliseconds',
  RecordsSaved: 'Count',
  /** Users of all tenants in the last 5 minutes, and in the last 30 days. */
  ActiveUsers: 'Count',
  MonthlyUsers: 'Count',

  /** A request went on although the limiter could not be reached. */
  LimitsUnchecked: 'Count',
  /** A turn was opened, or ended, without the token budgets, because what was used could not be asked for. */
  BudgetsUnchecked: 'Count',
  /** Phase 2 went on in Postgres, or with the queue alone, because Valkey could not be reached. */
  CacheUnreachable: 'Count',
  /** An idempotency key could not be looked up beyond the day that Valkey remembers, and was taken for new. */
  IdempotencyUnchecked: 'Count',

  /** Messages that have left Postgres for the archive in one run, and what it wrote to the bucket for them. */
  RowsArchived: 'Count',
  BytesArchived: 'Bytes',
  /** Messages did not leave: something went wrong with a tenant, a run had to stop, or a row is not what the archive can hold. */
  ArchiveFailed: 'Count',
  /** A row is not what the archive can hold, and stays in Postgres. */
  RowUnfitForArchive: 'Count',
  /** The oldest message of all tenants that is in Postgres, after a run. */
  OldestMessageAge: 'Seconds',
  /** How long ago the message should have left that has waited for it longest, after a run; 0: none waits. */
  OldestMessageOverdue: 'Seconds',
  /** Until the run would have had to stop; 0: it had to, with something left to do. */
  ArchiveTimeLeft: 'Seconds',
  /** Something of a conversation was needed that the archive does not hold as it was written. */
  ArchiveUnreadable: 'Count',

  /** One call that was answered, also where Postgres refused the statement. */
  DataApiTime: 'Milliseconds',
  /** One call that was not. */
  DataApiErrors: 'Count',
} as const satisfies Record<string, 'Bytes' | 'Count' | 'Milliseconds' | 'Seconds'>

export type Metric = keyof typeof metricUnits

/** Adds a value. Cheap: values are kept and leave together when an invocation ends. */
export type Measure = (metric: Metric, value: number) => void
/** Adds one, which leaves at once: for what is rare, and must be known also where the process dies next. */
export type Count = (metric: Metric) => void
