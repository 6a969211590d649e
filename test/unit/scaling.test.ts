import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { assumptions as costs } from '../../lib/cost/assumptions.ts'
import type { Consumption } from '../../lib/cost/consumption.ts'
import { archivedASecond, newestMeasurement, savedASecond } from '../../lib/cost/measured.ts'
import { withTablesMade } from '../../lib/cost/table.ts'
import { resources } from '../../lib/resources.ts'
import { contextOf, withTables } from '../../lib/scaling/document.ts'
import { checked, limits } from '../../lib/scaling/limits.ts'
import { type Context, type Load, turnsASecond } from '../../lib/scaling/load.ts'
import { monthlyUsd } from '../../lib/scaling/report.ts'
import { firstReached, isPublished, scale } from '../../lib/scaling/scaling.ts'

const DOCUMENT = resolve(import.meta.dirname, '../../docs/scaling.md')
/** Ten turns a second at the peak. */
const LOAD: Load = { turnsAnHour: 12_000, answerSeconds: 8, peak: 3 }

/** A turn that uses round figures, of an answer as long as that of the load. */
const known: Consumption = {
  ...newestMeasurement(1),
  functions: { chat: { invocations: 1, ms: 8_000, logBytes: 1_000 } },
  calls: [
    {
      function: 'chat',
      service: 'rds-data',
      operation: 'append_events',
      calls: 10,
      units: 10,
      requestBytes: 41_943.04,
      responseBytes: 1_000,
    },
  ],
  queueMessages: 3,
  viewer: { requests: 2, ms: 8_000, sentBytes: 1_000, receivedBytes: 60_000 },
  model: { requests: 1, ms: 8_000, sentBytes: 1_000, receivedBytes: 1_000 },
  database: { storedBytes: 1_000, passingBytes: 0, walBytes: 0, cpuMs: 25 },
}
const cached: Consumption = {
  ...known,
  cache: {
    simpleMicroseconds: 1,
    commands: [
      { operation: 'append', ofTenant: false, calls: 100, bytes: 20_480, microseconds: 1, ecpus: 100 },
      { operation: 'admit', ofTenant: true, calls: 1, bytes: 100, microseconds: 5, ecpus: 5 },
    ],
    gigabyteHours: 0.001,
  },
}

let one: Context
let two: Context
beforeAll(async () => {
  one = await contextOf('prod', 1, known)
  two = await contextOf('prod', 2, cached)
})

const limitOf = (context: Context, what: RegExp, load = LOAD) => {
  const found = scale(context, load).filter((each) => what.test(each.what))
  if (found.length !== 1) throw new Error(`${found.length} limits are like ${what}`)
  return found[0] as (typeof found)[number]
}

describe('what is known to be used', () => {
  test('is the utilisation of each limit that it asks of', () => {
    expect(turnsASecond(LOAD)).toBe(10)
    expect(limitOf(one, /^CloudFront: requests/).asked).toBeCloseTo(10 * 2.2)
    expect(limitOf(one, /^CloudFront: requests/).utilisation).toBeCloseTo(22 / 250_000)
    expect(limitOf(one, /^CloudFront: bits/).asked).toBeCloseTo(10 * 480_000)
    expect(limitOf(one, /messages in flight/).utilisation).toBeCloseTo(60 / 120_000)
    // 25 ms of a core, of which an ACU has a quarter, half of it used: 0.2 ACU a turn.
    expect(limitOf(one, /capacity that is allowed/).asked).toBeCloseTo(2)
    expect(limitOf(one, /capacity that is allowed/).utilisation).toBeCloseTo(2 / 32)
    // Ten statements of 15 ms.
    expect(limitOf(one, /connections/).asked).toBeCloseTo(1.5)
    expect(limitOf(two, /commands that are allowed/).utilisation).toBeCloseTo(1_050 / 1_000)
    expect(limitOf(two, /by their bytes alone/).asked).toBeCloseTo(10 * 101)
    expect(limitOf(two, /slot of one tenant/).asked).toBeCloseTo(50)
  })

  test('is asked by chat for as long as the model writes', () => {
    const { asked } = limitOf(one, /invocations at once/)
    expect(asked).toBeGreaterThan(80)
    expect(asked).toBeLessThan(85)
    const longer = limitOf(one, /invocations at once/, { ...LOAD, answerSeconds: 16 }).asked
    expect(longer - asked).toBeCloseTo(80, 0)
  })

  test('grows with the turns and with the peak; what is of each call does not', () => {
    const more = { ...LOAD, turnsAnHour: 10 * LOAD.turnsAnHour }
    expect(limitOf(one, /messages in flight/, more).utilisation).toBeCloseTo(600 / 120_000)
    expect(limitOf(one, /messages in flight/, { ...LOAD, peak: 6 }).utilisation).toBeCloseTo(120 / 120_000)
    expect(limitOf(one, /largest request/, more).utilisation).toBeCloseTo(0.001)
    expect(limitOf(one, /largest request/).reachedAt).toBe(Number.POSITIVE_INFINITY)
  })

  test('fills memory and storage by the mean, whatever the peak is', () => {
    for (const what of [/memory that is allowed/, /a month of messages/]) {
      expect(limitOf(two, what, { ...LOAD, peak: 30 }).asked).toBeCloseTo(limitOf(two, what).asked)
    }
    expect(limitOf(two, /memory that is allowed/).asked).toBeCloseTo(12_000 * 0.001)
  })

  test('has no rise where there is no peak', () => {
    const even = scale(one, { ...LOAD, peak: 1 }).map(({ what }) => what)
    expect(even.filter((what) => /rise/.test(what))).toEqual([])
  })
})

describe('the first bottleneck', () => {
  test('is named, with where it is reached and what moves it', () => {
    const first = firstReached(one, LOAD)
    expect(first.what).toBe('Lambda: invocations at once')
    expect(first.reachedAt).toBeCloseTo(12_000 / first.utilisation)
    expect(first.moves).toContain('concurrent executions')
  })

  test('is the same at any load', () => {
    for (const turnsAnHour of [10, 1_000, 100_000, 10_000_000])
      expect(firstReached(one, { ...LOAD, turnsAnHour }).what).toBe('Lambda: invocations at once')
  })

  test('is another one when a turn uses more of something else', () => {
    const heavy = { ...one, consumption: { ...known, database: { ...known.database, cpuMs: 250 } } }
    expect(firstReached(heavy, LOAD)).toMatchObject({
      what: 'Aurora: capacity that is allowed',
      moves: expect.stringContaining('database.maxAcu'),
    })
    expect(firstReached(heavy, LOAD, isPublished).what).toBe('Lambda: invocations at once')
  })

  test('is moved by the setting that is said to move it', () => {
    const { settings } = two
    const raised = { ...two, settings: { ...settings, cache: { ...LEAST, maxEcpuPerSecond: 100_000 } } }
    expect(firstReached(two, LOAD).moves).toBe('setting: cache.maxGigabytes, to 5,000')
    const roomy = { ...two, settings: { ...settings, cache: { ...LEAST, maxGigabytes: 100 } } }
    expect(firstReached(roomy, LOAD).moves).toBe('setting: cache.maxEcpuPerSecond, to 15,000,000')
    expect(limitOf(raised, /commands that are allowed/).utilisation).toBeCloseTo(1_050 / 100_000)
  })

  test('is moved by no setting that is as high as it can be', () => {
    const withAcu = (context: Context, maxAcu: number): Context => {
      const { settings } = context
      return { ...context, settings: { ...settings, database: { ...settings.database, maxAcu } } }
    }
    // 9,531,392 bytes for each of 5,000 connections are 22.2 ACU.
    expect(limitOf(withAcu(one, 16), /connections/).moves).toBe(
      'setting: database.maxAcu, to 22.5; or phase 2',
    )
    expect(limitOf(withAcu(one, 22.5), /connections/).moves).toMatch(/^phase 2/)
    expect(limitOf(withAcu(two, 22.5), /connections/).moves).toMatch(/^nothing/)
    expect(limitOf(withAcu(two, 16), /capacity that is allowed/).moves).toBe(
      'setting: database.maxAcu, to 256',
    )
    expect(limitOf(withAcu(one, 256), /capacity that is allowed/).moves).toMatch(/^phase 2/)
  })

  test('is never moved by phase 2 where that is there already', () => {
    expect(scale(two, LOAD).filter(({ moves }) => moves.includes('phase 2'))).toEqual([])
  })

  test('counts what this repository allows: two runs of persist', () => {
    const { maxConcurrency = 0 } = resources.eventSources.find((each) => each.function === 'persist') ?? {}
    expect(limitOf(one, /runs of persist/).value).toBe(maxConcurrency)
  })
})
const LEAST = { maxGigabytes: 1, maxEcpuPerSecond: 1_000, snapshotDays: 0 }

describe('a limit', () => {
  const { lambdaConcurrency } = limits

  test.each([
    ['source', { source: '' }, /has no source/],
    ['source of AWS', { source: 'https://example.com/limits' }, /has no source/],
    ['value', { value: 0 }, /has no value/],
    ['unit', { unit: '' }, /has no unit/],
    ['word about what moves it', { moves: '' }, /what moves it/],
    ['word about what moves it in phase 2', { moves: { 1: 'phase 2', 2: '' } }, /what moves it/],
  ])('without a %s is refused', (_, change, problem) => {
    expect(() => checked({ lambdaConcurrency: { ...lambdaConcurrency, ...change } })).toThrow(problem)
  })

  test('is asked of by something, each of them', () => {
    const units = new Set([...scale(one, LOAD), ...scale(two, LOAD)].map(({ unit }) => unit))
    expect(Object.values(limits).filter(({ unit }) => !units.has(unit))).toEqual([])
  })
})

test('a measurement without processor time of Postgres is refused', () => {
  const blind = { ...one, consumption: { ...known, database: { ...known.database, cpuMs: null } } }
  expect(() => scale(blind, LOAD)).toThrow('measure on Linux')
})

describe('what was measured last', () => {
  test.each([1, 2] as const)('in phase %i has processor time of turns that overlap', (phase) => {
    const { overlapping, database, functionsCpuMs } = newestMeasurement(phase)
    expect(overlapping.conversations).toBeGreaterThan(1)
    expect(overlapping.rounds.map(({ postgresMs }) => postgresMs)).toContain(database.cpuMs)
    expect(overlapping.rounds.map(({ functionsMs }) => functionsMs)).toContain(functionsCpuMs)
  })

  test('in phase 2 has a key and a budget for each turn, and knows what lies in the tenant’s slot', () => {
    const { commands = [] } = newestMeasurement(2).cache ?? {}
    const slotOf = Object.fromEntries(commands.map(({ operation, ofTenant }) => [operation, ofTenant]))
    expect(slotOf).toMatchObject({ admit: true, reserve: true, settle: true, claim: false, append: false })
  })
})

test('what persist saves and the archiver moves is what was measured last', () => {
  expect(limitOf(one, /runs of persist/).asked).toBeCloseTo((10 * 3) / (savedASecond() / 2))
  expect(costs.archive.messagesASecond).toBeCloseTo(archivedASecond() / 6)
  expect(savedASecond()).toBeGreaterThan(0)
  expect(archivedASecond()).toBeGreaterThan(0)
})

test('a month costs what the cost model says of as many turns', () => {
  const usd = (turnsAnHour: number) => monthlyUsd('prod', one, { ...LOAD, turnsAnHour })
  expect(usd(1_000)).toBeGreaterThan(usd(10))
  expect(usd(10)).toBeGreaterThan(350) // Aurora, awake
})

test('docs/scaling.md holds what is computed now (npm run scale -- --write-docs)', async () => {
  const document = readFileSync(DOCUMENT, 'utf8')
  const consumptions = { 1: newestMeasurement(1), 2: newestMeasurement(2) }
  expect(document).toBe(await withTables(document, consumptions))
})

test('a table that there is not is refused', () => {
  const document = '<!-- table: none -->\n<!-- end -->'
  expect(() => withTablesMade('docs/scaling.md', document, () => undefined)).toThrow(
    'docs/scaling.md asks for a table none.',
  )
})
