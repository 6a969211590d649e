import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { alarms } from '../../lib/observability/alarms.ts'
import { awsMetrics } from '../../lib/observability/series.ts'
import { ofType, synthesise } from '../harness/observability.ts'

const RUNBOOK = readFileSync(resolve(import.meta.dirname, '../../docs/runbook.md'), 'utf8')

const prod = synthesise('prod', { alarmEmail: 'operators@example.com' })
const dev = synthesise('dev')

interface Alarm {
  AlarmDescription: string
  AlarmActions?: unknown[]
  OKActions?: unknown[]
  InsufficientDataActions?: unknown[]
  TreatMissingData: string
  Metrics?: { MetricStat?: object }[]
}
const alarmOf = (observed: typeof prod, name: string): Alarm =>
  observed.alarms.find(({ AlarmDescription }) =>
    String(AlarmDescription).includes(`#${name} `),
  ) as unknown as Alarm

const namesOf = (kind: 'fault' | 'signal'): string[] =>
  Object.keys(alarms).filter((name) => alarms[name]?.kind === kind)

describe('alarms', () => {
  test('are those that were asked for', () => {
    const asked: Record<string, [limit: number, seconds: number]> = {
      'turn-not-saved': [0, 60],
      'save-lag': [300_000, 1_200],
      'queue-age': [1_200, 300],
      'dead-letters': [0, 300],
      'job-dead-letters': [0, 300],
      'schedule-dead-letters': [0, 300],
      'answer-errors': [5, 300],
      'request-errors': [5, 300],
      'time-to-first-token': [3_000, 300],
      'archive-failed': [0, 300],
      'archive-overdue': [172_800, 300],
      'archive-unreadable': [0, 300],
      'watched-words': [9, 900],
      'function-errors': [0, 300],
      'function-throttles': [0, 300],
      'slow-session-lookup': [50, 300],
      'database-load': [80, 300],
      'concurrent-users': [200, 600],
      'session-operations': [6_000, 60],
      'monthly-users': [1_000, 86_400],
      'expected-hit-ratio': [0.7, 86_400],
    }
    for (const [name, [above, periodSeconds]] of Object.entries(asked))
      expect([name, alarms[name]]).toEqual([name, expect.objectContaining({ above, periodSeconds })])
    expect(Object.keys(alarms).filter((name) => !(name in asked))).toEqual(['maintenance-stopped'])
  })

  test('say what they mean and where to read what to do, and each has its section', () => {
    const sections = [...RUNBOOK.matchAll(/^### (\S+)$/gm)].map(([, name]) => name)
    expect(sections).toEqual(expect.arrayContaining(Object.keys(alarms)))
    for (const [name, { meaning }] of Object.entries(alarms)) {
      expect(alarmOf(prod, name).AlarmDescription).toBe(
        `${meaning} What to do: docs/runbook.md#${name} (turnkeep prod)`,
      )
      const [, section = ''] = RUNBOOK.split(`### ${name}\n`)
      expect([name, section.split('\n#')[0]]).toEqual([
        name,
        expect.stringMatching(/\*\*Means\.\*\*[\s\S]*\*\*Do\.\*\*/),
      ])
    }
    expect(prod.alarms).toHaveLength(Object.keys(alarms).length)
  })

  test('are OK where nothing is measured, but for what runs by the clock', () => {
    for (const name of Object.keys(alarms))
      expect([name, alarmOf(prod, name).TreatMissingData]).toEqual([
        name,
        name === 'maintenance-stopped' ? 'breaching' : 'notBreaching',
      ])
  })

  test('wake somebody for faults alone, when they begin', () => {
    for (const name of namesOf('fault')) expect(alarmOf(prod, name).AlarmActions).toHaveLength(1)
    for (const name of namesOf('signal')) expect(alarmOf(prod, name).AlarmActions).toBeUndefined()
    for (const name of Object.keys(alarms))
      expect(alarmOf(prod, name)).not.toMatchObject({ OKActions: expect.anything() })
    for (const name of namesOf('fault')) expect(alarmOf(dev, name).AlarmActions).toBeUndefined()
  })

  test('signal the move to phase 2 only where it may come: not after it, and not where the database sleeps', () => {
    expect(dev.alarms).toHaveLength(namesOf('fault').length)
    expect(synthesise('staging').alarms).toHaveLength(Object.keys(alarms).length)
    expect(synthesise('prod', { phase: 2 }).alarms).toHaveLength(namesOf('fault').length)
  })
})

describe('the alarms’ topic', () => {
  test('takes messages of this account’s alarms alone, encrypted on the way and at rest', () => {
    expect(ofType(prod.template, 'AWS::SNS::Topic')).toEqual([
      expect.objectContaining({ KmsMasterKeyId: expect.anything() }),
    ])
    const [policy] = ofType(prod.template, 'AWS::SNS::TopicPolicy')
    expect(policy?.PolicyDocument).toMatchObject({
      Statement: [
        { Effect: 'Deny', Condition: { Bool: { 'aws:SecureTransport': 'false' } } },
        {
          Effect: 'Allow',
          Action: 'sns:Publish',
          Principal: { Service: 'cloudwatch.amazonaws.com' },
          Condition: { StringEquals: { 'aws:SourceAccount': '111122223333' }, ArnLike: expect.anything() },
        },
      ],
    })
    const [key] = ofType(prod.template, 'AWS::KMS::Key')
    expect(key).toMatchObject({ EnableKeyRotation: true })
    expect(ofType(prod.template, 'AWS::SNS::Subscription')).toEqual([
      expect.objectContaining({ Protocol: 'email', Endpoint: 'operators@example.com' }),
    ])
  })

  test('is not there where nobody is to be told', () => {
    for (const type of ['AWS::SNS::Topic', 'AWS::KMS::Key']) expect(ofType(dev.template, type)).toEqual([])
  })
})

describe('metrics of AWS', () => {
  const dimensions = {
    queue: ['QueueName'],
    function: ['FunctionName'],
    database: ['DBClusterIdentifier', 'Role'],
    distribution: ['DistributionId', 'Region'],
  }

  test('are all documented, and asked for by the dimensions that they have', () => {
    const documented = Object.values(awsMetrics).map(({ namespace, name, of }) =>
      JSON.stringify([namespace, name, dimensions[of]]),
    )
    const used = prod.metrics
      .filter(({ namespace }) => namespace.startsWith('AWS/'))
      .map(({ namespace, name, dimensions: set }) =>
        JSON.stringify([namespace, name, Object.keys(set).sort()]),
      )
    expect(used.filter((metric) => !documented.includes(metric))).toEqual([])
    expect(documented.filter((metric) => !used.includes(metric))).toEqual([])
    for (const { documented: link } of Object.values(awsMetrics))
      expect(link).toMatch(/^https:\/\/docs\.aws\.amazon\.com\//)
  })

  test('of the distribution are read where CloudFront writes them', () => {
    const [widget] = prod.widgets.filter(({ properties }) => properties.title === 'Distribution')
    const rows = (widget?.properties.metrics ?? []) as unknown[][]
    expect(rows).toHaveLength(2)
    for (const row of rows) expect(row.at(-1)).toMatchObject({ region: 'us-east-1' })
  })
})

describe('the dashboard', () => {
  const titles = (observed: typeof prod): unknown[] =>
    observed.widgets.map(({ properties }) => properties.title)
  const undated = (observed: typeof prod): string[] =>
    titles(observed).map((title) => String(title).replace(/ \(prices of .*/, ''))

  test('shows everything that was asked for', () => {
    expect(undated(prod)).toEqual([
      'Faults',
      'Time to first token',
      'Model: time to first token',
      'Answer time',
      'Answers by outcome',
      'Requests',
      'Distribution',
      'Save lag',
      'Records saved',
      'Turns queue: depth',
      'Turns queue: age',
      'Dead letters',
      'Rescue and spool',
      'Questions with a watched word',
      'Archive: messages',
      'Archive: written',
      'Archive: times',
      'Data API: latency',
      'Data API: errors',
      'Hot store',
      'Hot store: appends that failed',
      'Tokens and cost by tenant',
      'Tokens and cost by model and outcome',
      'Signals: does the move to phase 2 pay?',
      'Users',
      'Session operations',
      'Expected hit ratio',
      'Database',
      'Functions: errors and throttles',
      'Functions: running at once',
    ])
    expect(undated(prod).filter((title) => !undated(dev).includes(title))).toEqual([
      'Signals: does the move to phase 2 pay?',
    ])
  })

  test('fits: each row is as wide as the dashboard', () => {
    const widths = new Map<number, number>()
    for (const widget of prod.widgets as unknown as { y: number; width: number }[])
      widths.set(widget.y, (widths.get(widget.y) ?? 0) + widget.width)
    expect([...new Set(widths.values())]).toEqual([24])
  })

  test('prices tokens as the settings do', () => {
    const observed = synthesise('prod', {
      model: {
        baseUrl: 'https://x.test',
        name: 'm',
        price: { prompt: 3, completion: 15, asOf: '2026-01-02' },
      },
    })
    const queries = observed.widgets.flatMap(({ properties }) => properties.query ?? [])
    for (const query of queries)
      expect(query).toContain('sum((promptTokens * 3 + completionTokens * 15) / 1000000) as usd')
    expect(titles(observed)).toContain('Tokens and cost by tenant (prices of 2026-01-02)')
  })
})

test('an environment that nobody uses pays little for being watched: 0.10 USD a series, 3 USD a dashboard', () => {
  const series = (observed: typeof prod): number =>
    (observed.alarms as unknown as Alarm[]).reduce(
      (total, { Metrics }) => total + (Metrics?.filter(({ MetricStat }) => MetricStat).length ?? 1),
      0,
    )
  const usd = (observed: typeof prod): number =>
    series(observed) * 0.1 + ofType(observed.template, 'AWS::CloudWatch::Dashboard').length * 3
  expect(usd(dev)).toBeLessThanOrEqual(6.0)
  expect(usd(prod)).toBeLessThanOrEqual(6.7)
})
