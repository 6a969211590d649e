import dated from './prices.json' with { type: 'json' }

export type PriceName = keyof typeof dated.prices

interface Price {
  usd: number
  unit: string
  source: string
  /** From memory, not yet compared with its source. */
  recheck?: boolean
}

/** On demand, in one region, without free tiers; all in lib/cost/prices.json. */
export const prices: Record<PriceName, Price> = dated.prices
export const pricedAt = { asOf: dated.asOf, region: dated.region }

/** One line of a bill: what it is for, and how much of what it comes to in a month. */
export interface Line {
  service: string
  item: string
  quantity: number
  unit: string
  usd: number
  price: PriceName
}

export function line(service: string, item: string, quantity: number, price: PriceName): Line {
  const { usd, unit } = prices[price]
  return { service, item, quantity, unit, usd: quantity * usd, price }
}

export const total = (lines: readonly Line[]): number => lines.reduce((sum, { usd }) => sum + usd, 0)
