/** The dashboard, as data: rows of widgets, what matters most first. */
import type { Alarm } from './alarms.ts'
import type { Calculated, Series } from './series.ts'

export interface Graph {
  title: string
  series: (Series | Calculated)[]
  unit: string
  /** Where the alarm lies. */
  line?: { value: number; label: string }
  stacked?: boolean
}
export interface AlarmList {
  title: string
  alarms: Alarm['kind']
}
/** A table over the lines that say how answers ended. */
export interface AnswerTable {
  title: string
  query: (price: ModelPrice) => string[]
}
export type Widget = Graph | AlarmList | AnswerTable

/** USD per million tokens. */
export interface ModelPrice {
  prompt: number
  completion: number
}

const usd = ({ prompt, completion }: ModelPrice): string =>
  `sum((promptTokens * ${prompt} + completionTokens * ${completion}) / 1000000) as usd`
const sums = 'count(*) as answers, sum(promptTokens) as prompt, sum(completionTokens) as completion'

export const rows: Widget[][] = [
  [{ title: 'Faults', alarms: 'fault' }],
  [
    {
      title: 'Time to first token',
      unit: 'ms',
      series: [
        { metric: 'TimeToFirstToken', by: 'chat', statistic: 'p50', label: 'p50' },
        { metric: 'TimeToFirstToken', by: 'chat', statistic: 'p99', label: 'p99' },
      ],
      line: { value: 3_000, label: 'an answer begins' },
    },
    {
      title: 'Model: time to first token',
      unit: 'ms',
      series: [
        { metric: 'ModelTimeToFirstToken', by: 'chat', statistic: 'p50', label: 'p50' },
        { metric: 'ModelTimeToFirstToken', by: 'chat', statistic: 'p99', label: 'p99' },
      ],
    },
    {
      title: 'Answer time',
      unit: 'ms',
      series: [
        { metric: 'AnswerTime', by: 'chat', statistic: 'p50', label: 'p50' },
        { metric: 'AnswerTime', by: 'chat', statistic: 'p99', label: 'p99' },
      ],
    },
  ],
  [
    {
      title: 'Answers by outcome',
      unit: 'answers',
      stacked: true,
      series: [
        { metric: 'AnswersComplete', by: 'chat', statistic: 'Sum', label: 'complete' },
        { metric: 'AnswersStopped', by: 'chat', statistic: 'Sum', label: 'stopped' },
        { metric: 'AnswersInterrupted', by: 'chat', statistic: 'Sum', label: 'interrupted' },
        {
          metric: 'AnswersInterrupted',
          by: 'persist',
          statistic: 'Sum',
          label: 'interrupted, ended by its watch',
        },
        { metric: 'AnswersFailed', by: 'chat', statistic: 'Sum', label: 'failed' },
      ],
    },
    {
      title: 'Requests',
      unit: 'requests',
      series: [
        { aws: 'requests', of: 'chat', statistic: 'Sum', label: 'chat' },
        { aws: 'requests', of: 'api', statistic: 'Sum', label: 'api' },
        { aws: 'clientErrors', of: 'chat', statistic: 'Sum', label: 'chat 4xx' },
        { aws: 'clientErrors', of: 'api', statistic: 'Sum', label: 'api 4xx' },
        { aws: 'serverErrors', of: 'chat', statistic: 'Sum', label: 'chat 5xx' },
        { aws: 'serverErrors', of: 'api', statistic: 'Sum', label: 'api 5xx' },
      ],
    },
    {
      title: 'Distribution',
      unit: 'requests, %',
      series: [
        { aws: 'siteRequests', of: 'site', statistic: 'Sum', label: 'requests' },
        { aws: 'siteErrors', of: 'site', statistic: 'Average', label: '5xx, %' },
      ],
    },
  ],
  [
    {
      title: 'Save lag',
      unit: 'ms',
      series: [
        { metric: 'SaveLag', by: 'persist', statistic: 'p50', label: 'p50' },
        { metric: 'SaveLag', by: 'persist', statistic: 'Maximum', label: 'most' },
      ],
      line: { value: 300_000, label: 'alarm' },
    },
    {
      title: 'Records saved',
      unit: 'records',
      series: [{ metric: 'RecordsSaved', by: 'persist', statistic: 'Sum', label: 'saved' }],
    },
    {
      title: 'Turns queue: depth',
      unit: 'messages',
      series: [
        { aws: 'queueDepth', of: 'turns', statistic: 'Maximum', label: 'waiting' },
        { aws: 'queueInHand', of: 'turns', statistic: 'Maximum', label: 'in hand or waiting for Postgres' },
        { aws: 'queueDelayed', of: 'turns', statistic: 'Maximum', label: 'delayed (watches)' },
      ],
    },
    {
      title: 'Turns queue: age',
      unit: 's',
      series: [{ aws: 'queueAge', of: 'turns', statistic: 'Maximum', label: 'oldest message' }],
      line: { value: 1_200, label: 'alarm' },
    },
  ],
  [
    {
      title: 'Dead letters',
      unit: 'messages',
      series: [
        { aws: 'queueDepth', of: 'turnsDead', statistic: 'Maximum', label: 'records waiting' },
        { metric: 'RecordDeadLettered', by: 'persist', statistic: 'Sum', label: 'records that died' },
        { aws: 'queueDepth', of: 'jobsDead', statistic: 'Maximum', label: 'exports and erasures' },
        { aws: 'queueDepth', of: 'schedulesDead', statistic: 'Maximum', label: 'scheduled runs' },
      ],
    },
    {
      title: 'Rescue and spool',
      unit: 'turns',
      series: [
        { metric: 'TurnRescued', by: 'persist', statistic: 'Sum', label: 'rescued by the watch' },
        { metric: 'TurnRescued', by: 'chat', statistic: 'Sum', label: 'rescued by a reader' },
        { metric: 'TurnRescued', by: 'maintain', statistic: 'Sum', label: 'rescued by maintain' },
        { metric: 'TurnSpooled', by: 'chat', statistic: 'Sum', label: 'spooled' },
        { metric: 'TurnNotSaved', by: 'chat', statistic: 'Sum', label: 'not saved' },
      ],
    },
    {
      title: 'Questions with a watched word',
      unit: 'questions',
      series: [{ metric: 'WatchedWord', by: 'chat', statistic: 'Sum', label: 'questions' }],
    },
  ],
  [
    {
      title: 'Archive: messages',
      unit: 'messages',
      series: [
        { metric: 'RowsArchived', by: 'archive', statistic: 'Sum', label: 'left Postgres' },
        { metric: 'RowUnfitForArchive', by: 'archive', statistic: 'Sum', label: 'cannot be archived' },
        { metric: 'ArchiveFailed', by: 'archive', statistic: 'Sum', label: 'tenants that failed' },
        { metric: 'ArchiveUnreadable', by: 'archive', statistic: 'Sum', label: 'reads that failed' },
      ],
    },
    {
      title: 'Archive: written',
      unit: 'bytes',
      series: [{ metric: 'BytesArchived', by: 'archive', statistic: 'Sum', label: 'compressed' }],
    },
    {
      title: 'Archive: times',
      unit: 's',
      series: [
        {
          metric: 'OldestMessageAge',
          by: 'archive',
          statistic: 'Maximum',
          label: 'oldest message in Postgres',
        },
        { metric: 'OldestMessageOverdue', by: 'archive', statistic: 'Maximum', label: 'and beyond its time' },
        { metric: 'ArchiveTimeLeft', by: 'archive', statistic: 'Minimum', label: 'left of the run' },
      ],
    },
  ],
  [
    {
      title: 'Data API: latency',
      unit: 'ms',
      series: [
        { metric: 'DataApiTime', by: 'chat', statistic: 'p50', label: 'chat p50' },
        { metric: 'DataApiTime', by: 'chat', statistic: 'p99', label: 'chat p99' },
        { metric: 'DataApiTime', by: 'persist', statistic: 'p99', label: 'persist p99' },
        { metric: 'DataApiTime', by: 'api', statistic: 'p99', label: 'api p99' },
      ],
    },
    {
      title: 'Data API: errors',
      unit: 'calls',
      series: [
        { metric: 'DataApiErrors', by: 'chat', statistic: 'Sum', label: 'chat' },
        { metric: 'DataApiErrors', by: 'persist', statistic: 'Sum', label: 'persist' },
        { metric: 'DataApiErrors', by: 'api', statistic: 'Sum', label: 'api' },
      ],
    },
    {
      title: 'Hot store',
      unit: 'ms',
      series: [
        { metric: 'SessionLookupTime', by: 'chat', statistic: 'p50', label: 'look-up p50' },
        { metric: 'SessionLookupTime', by: 'chat', statistic: 'p99', label: 'look-up p99' },
        { metric: 'LogAppendTime', by: 'chat', statistic: 'p50', label: 'append p50' },
        { metric: 'LogAppendTime', by: 'chat', statistic: 'p99', label: 'append p99' },
      ],
    },
    {
      title: 'Hot store: appends that failed',
      unit: 'appends',
      series: [{ metric: 'ReplyLogUnreachable', by: 'chat', statistic: 'Sum', label: 'out of reach' }],
    },
  ],
  [
    {
      title: 'Tokens and cost by tenant',
      query: (price) => [`stats ${sums}, ${usd(price)} by companyId, platform`, 'sort usd desc', 'limit 100'],
    },
    {
      title: 'Tokens and cost by model and outcome',
      query: (price) => [`stats ${sums}, ${usd(price)} by model, outcome`, 'sort usd desc', 'limit 100'],
    },
  ],
  [{ title: 'Signals: does the move to phase 2 pay?', alarms: 'signal' }],
  [
    {
      title: 'Users',
      unit: 'users',
      series: [
        { metric: 'ActiveUsers', by: 'persist', statistic: 'Maximum', label: 'in 5 minutes' },
        { metric: 'MonthlyUsers', by: 'persist', statistic: 'Maximum', label: 'in 30 days' },
      ],
    },
    {
      title: 'Session operations',
      unit: 'a second',
      series: [
        {
          label: 'of chat',
          expression: 'operations / PERIOD(operations)',
          of: { operations: { metric: 'HotStoreTime', by: 'chat', statistic: 'SampleCount' } },
        },
      ],
      line: { value: 100, label: 'signal' },
    },
    {
      title: 'Expected hit ratio',
      unit: 'of sessions',
      series: [{ metric: 'KnownSession', by: 'chat', statistic: 'Average', label: 'used within a day' }],
      line: { value: 0.7, label: 'signal' },
    },
    {
      title: 'Database',
      unit: '%, ACU',
      series: [
        { aws: 'databaseLoad', of: 'writer', statistic: 'Average', label: 'of what it may grow to, %' },
        { aws: 'databaseCapacity', of: 'writer', statistic: 'Average', label: 'ACU' },
      ],
      line: { value: 80, label: 'signal' },
    },
  ],
  [
    {
      title: 'Functions: errors and throttles',
      unit: 'invocations',
      series: [
        { aws: 'errors', of: 'chat', statistic: 'Sum', label: 'chat errors' },
        { aws: 'errors', of: 'api', statistic: 'Sum', label: 'api errors' },
        { aws: 'errors', of: 'persist', statistic: 'Sum', label: 'persist errors' },
        { aws: 'errors', of: 'maintain', statistic: 'Sum', label: 'maintain errors' },
        { aws: 'errors', of: 'archive', statistic: 'Sum', label: 'archive errors' },
        { aws: 'errors', of: 'rotate', statistic: 'Sum', label: 'rotate errors' },
        { aws: 'throttles', of: 'chat', statistic: 'Sum', label: 'chat throttles' },
        { aws: 'throttles', of: 'api', statistic: 'Sum', label: 'api throttles' },
        { aws: 'throttles', of: 'persist', statistic: 'Sum', label: 'persist throttles' },
      ],
    },
    {
      title: 'Functions: running at once',
      unit: 'invocations',
      series: [
        { aws: 'concurrency', of: 'chat', statistic: 'Maximum', label: 'chat' },
        { aws: 'concurrency', of: 'api', statistic: 'Maximum', label: 'api' },
        { aws: 'concurrency', of: 'persist', statistic: 'Maximum', label: 'persist' },
      ],
    },
  ],
]
