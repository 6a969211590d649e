import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { type Cost, costOf } from '../../lib/cost/cost.ts'
import { withTables } from '../../lib/cost/document.ts'
import { newestMeasurement } from '../../lib/cost/measured.ts'
import { type Line, prices, total } from '../../lib/cost/prices.ts'
import { synthesise } from '../../lib/cost/synthesise.ts'
import type { Resource, Template } from '../../lib/cost/template.ts'
import { checkSettings, environments, settingsFor } from '../../lib/settings.ts'

const MOST_IDLE_DEV_USD = 10
const LOAD = { turns: 1_000_000, answerSeconds: 8 }
const DOCUMENT = resolve(import.meta.dirname, '../../docs/cost.md')

const consumption = newestMeasurement()
let dev: Template[]
let prod: Template[]
beforeAll(async () => {
  dev = await synthesise('dev', settingsFor('dev'))
  prod = await synthesise('prod', settingsFor('prod'))
})

const cost = (templates: Template[], load = LOAD): Cost => costOf('dev', templates, consumption, load)
const withResource = (templates: Template[], id: string, resource: Resource): Template[] => [
  ...templates,
  { Resources: { [id]: resource } },
]
const changed = (
  templates: Template[],
  type: string,
  change: (properties: NonNullable<Resource['Properties']>) => void,
): Template[] => {
  const copy = structuredClone(templates)
  for (const { Resources } of copy)
    for (const resource of Object.values(Resources))
      if (resource.Type === type) {
        resource.Properties ??= {}
        change(resource.Properties)
      }
  return copy
}
const usd = (lines: readonly Line[], service: string, item: RegExp): number =>
  total(lines.filter((one) => one.service === service && item.test(one.item)))

describe('an environment in which nobody is', () => {
  test('costs less than 10 USD a month in dev', () => {
    expect(total(cost(dev).fixed)).toBeLessThan(MOST_IDLE_DEV_USD)
  })

  test('costs more than that with a NAT, and says why', () => {
    const address = withResource(dev, 'Address', { Type: 'AWS::EC2::EIP' })
    const { fixed } = cost(withResource(address, 'Nat', { Type: 'AWS::EC2::NatGateway' }))
    expect(total(fixed)).toBeGreaterThan(MOST_IDLE_DEV_USD)
    expect(usd(fixed, 'VPC', /NAT/)).toBeCloseTo(0.045 * 730)
  })

  test('costs no capacity where the database pauses, and the least of each instance where it does not', () => {
    expect(usd(cost(dev).fixed, 'Aurora', /^capacity/)).toBe(0)
    const { minAcu, instances } = environments.prod.database
    expect(usd(cost(prod).fixed, 'Aurora', /^capacity/)).toBeCloseTo(minAcu * instances * 730 * 0.12)
  })

  test('has as many secrets as the templates, and the one that RDS makes', () => {
    const written = dev.flatMap(({ Resources }) => Object.values(Resources))
    const own = written.filter(({ Type }) => Type === 'AWS::SecretsManager::Secret').length
    expect(usd(cost(dev).fixed, 'Secrets Manager', /secrets/)).toBeCloseTo((own + 1) * 0.4)
  })

  test('pays for each metric that an alarm looks at', () => {
    const before = usd(cost(dev).fixed, 'CloudWatch', /alarms/)
    const MetricStat = { Metric: {}, Period: 60, Stat: 'Sum' }
    const alarm = {
      Type: 'AWS::CloudWatch::Alarm',
      Properties: {
        Metrics: [
          { Id: 'a', MetricStat },
          { Id: 'b', MetricStat },
          { Id: 'c', Expression: 'a/b' },
        ],
      },
    }
    expect(usd(cost(withResource(dev, 'Alarm', alarm)).fixed, 'CloudWatch', /alarms/)).toBeCloseTo(
      before + 0.2,
    )
  })

  test('pays the least of a cache in phase 2', async () => {
    const cache = { maxGigabytes: 1, maxEcpuPerSecond: 1_000, snapshotDays: 0 }
    const settings = checkSettings('dev', { ...environments.dev, phase: 2, cache })
    const { fixed } = cost(await synthesise('dev', settings))
    expect(usd(fixed, 'ElastiCache', /./)).toBeCloseTo(0.1 * 730 * 0.084)
  })
})

describe('what has no price', () => {
  test('is refused, and all of it is named', () => {
    const table = withResource(dev, 'Table', { Type: 'AWS::DynamoDB::Table' })
    expect(() => cost(withResource(table, 'Proxy', { Type: 'AWS::RDS::DBProxy' }))).toThrow(
      'AWS::DynamoDB::Table (Table), AWS::RDS::DBProxy (Proxy)',
    )
  })

  test.each<[string, string, (properties: NonNullable<Resource['Properties']>) => void, RegExp]>([
    [
      'a database of a fixed size',
      'AWS::RDS::DBInstance',
      (it) => (it.DBInstanceClass = 'db.r8g.large'),
      /db\.r8g/,
    ],
    [
      'storage of another kind',
      'AWS::RDS::DBCluster',
      (it) => (it.StorageType = 'aurora-iopt1'),
      /aurora-iopt1/,
    ],
    ['a FIFO queue', 'AWS::SQS::Queue', (it) => (it.FifoQueue = true), /FIFO/],
    ['a log that is kept for ever', 'AWS::Logs::LogGroup', (it) => delete it.RetentionInDays, /for ever/],
    [
      'a disk beside a function',
      'AWS::Lambda::Function',
      (it) => (it.EphemeralStorage = { Size: 1024 }),
      /memory/,
    ],
    [
      'functions that are kept warm',
      'AWS::Lambda::Version',
      (it) => (it.ProvisionedConcurrencyConfig = { ProvisionedConcurrentExecutions: 1 }),
      /provisioned/,
    ],
    [
      'a schedule that was not measured',
      'AWS::Scheduler::Schedule',
      (it) => (it.Target = { Arn: { 'Fn::GetAtt': ['unknownFunction00000000', 'Arn'] } }),
      /measured/,
    ],
  ])('%s is refused', (_, type, change, problem) => {
    expect(() => cost(changed(dev, type, change))).toThrow(problem)
  })
})

describe('turns', () => {
  test('cost in proportion to their number, the database’s capacity aside', () => {
    const withoutCapacity = (turns: number) =>
      total(cost(prod, { ...LOAD, turns }).turns.filter(({ item }) => !item.startsWith('capacity')))
    expect(withoutCapacity(2_000_000)).toBeCloseTo(2 * withoutCapacity(1_000_000))
    expect(withoutCapacity(0)).toBe(0)
  })

  test('cost chat’s memory for as long as the model takes, and a little', () => {
    const [chat] = cost(prod).turns.filter(({ item }) => item.startsWith('chat, 1024 MB'))
    const secondsATurn = (chat?.quantity ?? 0) / LOAD.turns
    expect(secondsATurn).toBeGreaterThan(8)
    expect(secondsATurn).toBeLessThan(8.5)
  })

  test('cost calls of the Data API that grow with the answer’s time, some aside', () => {
    const calls = (answerSeconds: number) =>
      cost(prod, { ...LOAD, answerSeconds }).turns.find(({ item }) => item === 'Data API')?.quantity ?? 0
    expect(calls(16) - calls(8)).toBeCloseTo(calls(24) - calls(16))
    expect(calls(16)).toBeLessThan(2 * calls(8))
  })

  test('ask for more of the database when there are more of them', () => {
    const capacity = (turns: number) => usd(cost(prod, { ...LOAD, turns }).turns, 'Aurora', /^capacity/)
    expect(capacity(100_000)).toBe(0)
    expect(capacity(20_000_000)).toBeGreaterThan(0)
  })
})

describe('turns in phase 2', () => {
  const cached = newestMeasurement(2)
  const turnsOf = (turns: number, answerSeconds = 8) =>
    costOf('dev', dev, cached, { turns, answerSeconds }).turns
  const quantity = (lines: readonly Line[], item: RegExp): number =>
    lines
      .filter((one) => one.service === 'ElastiCache' && item.test(one.item))
      .reduce((sum, one) => sum + one.quantity, 0)

  test('cost an ECPU for each command and KB at least, and more the longer an answer is', () => {
    const { commands = [] } = cached.cache ?? {}
    const least = commands.reduce((sum, { calls, bytes }) => sum + Math.max(calls, bytes / 1_024), 0)
    expect(quantity(turnsOf(1_000), /^commands/)).toBeGreaterThanOrEqual(1_000 * least)
    const appends = commands.find(({ operation }) => operation === 'append')
    const longer = quantity(turnsOf(1_000, 16), /^commands/) - quantity(turnsOf(1_000, 8), /^commands/)
    expect(longer).toBeCloseTo((1_000 * (appends?.ecpus ?? 0) * 8_000) / cached.model.ms)
  })

  test('cost storage only beyond what is billed anyway', () => {
    const each = cached.cache?.gigabyteHours ?? 0
    const covered = (0.1 * 730) / each
    expect(quantity(turnsOf(covered * 0.9), /^stored/)).toBe(0)
    expect(quantity(turnsOf(covered * 2), /^stored/)).toBeCloseTo(0.1 * 730)
  })

  test('ask the Data API for nothing while an answer is written', () => {
    expect(cached.calls.map(({ operation }) => operation)).not.toContain('append_events')
    expect(usd(turnsOf(1_000_000), 'Aurora', /^Data API/)).toBeLessThan(
      usd(cost(dev).turns, 'Aurora', /^Data API/),
    )
  })
})

describe('a container', () => {
  test('is cheaper from that number of turns on, and not before', () => {
    for (const database of ['aurora', 'rds'] as const) {
      const { cheaperFrom } = cost(dev).containers[database]
      const at = (turns: number) => cost(dev, { ...LOAD, turns }).containers[database]
      const [before, after] = [at(cheaperFrom * 0.99), at(cheaperFrom * 1.01)]
      expect(before.serverlessUsd).toBeLessThan(before.containerUsd)
      expect(after.serverlessUsd).toBeGreaterThan(after.containerUsd)
    }
  })

  test('costs its processors, its balancer and its database while nobody comes', () => {
    const { container } = costOf('prod', prod, consumption, { ...LOAD, turns: 0 }).containers.rds
    expect(usd(container, 'Fargate', /processor/)).toBeCloseTo(2 * 0.5 * 730 * 0.03238)
    expect(container.map(({ service }) => service)).toEqual(
      expect.arrayContaining(['Load balancer', 'RDS', 'VPC']),
    )
  })
})

test('every price has a source', () => {
  for (const { usd: price, unit, source } of Object.values(prices)) {
    expect(price).toBeGreaterThan(0)
    expect(unit).not.toBe('')
    expect(source).toMatch(/^https:\/\/aws\.amazon\.com\//)
  }
})

test('docs/cost.md holds what is computed now (npm run cost -- --write-docs)', async () => {
  const document = readFileSync(DOCUMENT, 'utf8')
  expect(document).toBe(await withTables(document, consumption))
})
