/** The signals of the move to phase 2 have figures in either phase, so that one can also see what became of the reasons. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Series } from '../../lib/observability/series.ts'
import { signals } from '../../lib/observability/signals.ts'
import { linesOf, metricsOf } from '../harness/emitted-metrics.ts'
import { inBothPhases, startTurnkeep, type Turnkeep } from '../harness/turnkeep.ts'

/** Of AWS, whatever the phase: the others are ours to emit. */
const OF_AWS = ['database-load']

inBothPhases('after two questions in one session', ({ valkey }) => {
  let turnkeep: Turnkeep
  beforeAll(async () => {
    turnkeep = await startTurnkeep({ name: 'signals', valkey })
    const user = turnkeep.as({ userId: 'measured' })
    const { session } = await user.ask('첫 질문')
    const second = await user.ask({ message: '둘째 질문', sessionId: session?.sessionId })
    expect(second.terminal?.type).toBe('done')
    await turnkeep.drained()
  })
  afterAll(() => turnkeep.close())

  const values = (series: Series): number[] => {
    if (!('metric' in series)) return []
    return metricsOf(linesOf(turnkeep.output()))
      .filter(
        ({ name, dimensions }) => name === series.metric && dimensions.service === `turnkeep-${series.by}`,
      )
      .flatMap((metric) => metric.values)
  }
  /** A function writes when its invocation ends, which a client does not wait for. */
  const figures = (series: Series) => expect.poll(() => values(series), { timeout: 20_000, interval: 50 })

  const own = Object.entries(signals).filter(([name]) => !OF_AWS.includes(name))
  test.each(own)('%s has a figure', async (_, { watches }) => {
    if ('expression' in watches) expect.fail('a signal of several metrics: each needs a figure')
    await figures(watches).not.toEqual([])
  })

  test('sessions are known by the second question, and each look-up is timed', async () => {
    await figures({ metric: 'KnownSession', by: 'chat', statistic: 'Average' }).toEqual([0, 1])
    const times = { metric: 'SessionLookupTime', by: 'chat', statistic: 'p90' } as const
    await figures(times).toHaveLength(2)
    for (const ms of values(times)) expect(ms).toBeGreaterThan(0)
    await figures({ metric: 'ActiveUsers', by: 'persist', statistic: 'Maximum' }).toEqual([1])
    await figures({ metric: 'MonthlyUsers', by: 'persist', statistic: 'Maximum' }).toEqual([1])
  })

  test('the operations of an answer are counted each: opened, logged, closed and finished', async () => {
    const operations = { metric: 'HotStoreTime', by: 'chat', statistic: 'SampleCount' } as const
    const appends = { metric: 'LogAppendTime', by: 'chat', statistic: 'SampleCount' } as const
    const answers = 2
    await expect
      .poll(() => values(operations).length - values(appends).length, { timeout: 20_000 })
      .toBe(3 * answers)
  })
})
