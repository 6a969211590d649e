import * as v from 'valibot'
import { expect, test } from 'vitest'
import prices from '../../lambdas/usage/model-prices.json' with { type: 'json' }
import { environments } from '../../lib/settings.ts'

const amount = v.pipe(v.number(), v.minValue(0))
const schema = v.array(
  v.strictObject({
    model: v.pipe(v.string(), v.nonEmpty()),
    from: v.pipe(v.string(), v.isoDate()),
    promptPerMillion: amount,
    completionPerMillion: amount,
    source: v.pipe(v.string(), v.url(), v.startsWith('https://')),
    recheck: v.optional(v.literal(true)),
  }),
)

test('every model price is dated, sourced and there once', () => {
  const checked = v.parse(schema, prices)
  expect(checked.length).toBeGreaterThan(0)
  expect(new Set(checked.map(({ model, from }) => `${model} ${from}`)).size).toBe(checked.length)
})

test('together they fit into a call of the Data API many times over', () => {
  expect(JSON.stringify(prices).length).toBeLessThan(64_000)
})

test('the dashboard of each environment prices its model as usage does', () => {
  for (const { model } of Object.values(environments)) {
    const [newest] = prices
      .filter((price) => price.model === model.name && price.from <= model.price.asOf)
      .sort((a, b) => b.from.localeCompare(a.from))
    expect(newest).toMatchObject({
      promptPerMillion: model.price.prompt,
      completionPerMillion: model.price.completion,
    })
  }
})
