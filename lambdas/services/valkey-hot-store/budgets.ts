/**
 * Token budgets: what a turn may use is held from before it is opened until it has its answer, whose real use is counted
 * then. Counters begin with what Postgres says.
 */
import type { Tenant } from '../../protocol/callers.ts'
import type { QuotaDetails } from '../../protocol/limits.ts'
import type { MessageRecord } from '../../protocol/queue.ts'
import type { Budgets, OwnSettings } from '../../protocol/tenants.ts'
import { estimateTokens } from '../../protocol/text.ts'
import { boundedMap } from '../bounded-map.ts'
import { RESERVED_ANSWER_TOKENS, type Spending } from '../hot-store.ts'
import { notOpened } from '../not-opened.ts'
import type { TokensUsed } from '../postgres-session-source.ts'
import type { Keys } from '../valkey.ts'
import { inTime } from './in-time.ts'
import type { Means } from './means.ts'
import { placeKey, reservedKey, tokensKey } from './names.ts'
import * as scripts from './scripts/budgets.ts'
import { together } from './together.ts'

/** The longest that a function runs, and a bit: whoever has not ended its turn by then is gone. */
const HOLD_MS = 16 * 60_000
/** Postgres may sleep: after this a turn goes on without its budgets. */
const PATIENCE_MS = 1_000

/** In the order in which one is named that is used up together with others of its period. */
const BUDGETS = [
  { name: 'userTokensPerDay', budget: 'user', period: 'day' },
  { name: 'userTokensPerMonth', budget: 'user', period: 'month' },
  { name: 'tenantTokensPerDay', budget: 'tenant', period: 'day' },
  { name: 'tenantTokensPerMonth', budget: 'tenant', period: 'month' },
] as const satisfies { name: keyof Budgets; budget: QuotaDetails['budget']; period: QuotaDetails['period'] }[]

type InForce = (typeof BUDGETS)[number] & { limit: number }

/** A turn that is to be opened. What has to be looked up is asked for only where it counts. */
export interface Spender {
  tenant: Tenant
  messageId: string
  spending: Spending | undefined
  /** Whose session it is. */
  owner: () => Promise<string>
  questionTokens: () => Promise<number>
}

export interface Reservation {
  /** For the history that goes with the question, at most as much as may go. */
  raise(history: readonly MessageRecord[]): void
  /** For a turn that was not opened after all. */
  giveBack(): void
}

export interface Budgeting {
  /** Refuses `quota_exceeded`. Where Postgres cannot say what was used, the turn goes on, and is counted. */
  reserve(spender: Spender): Promise<Reservation>
  /** This instance ends the turn from now on; it may hold something. */
  inherit(tenant: Tenant, messageId: string): void
  /** The turn ends with this answer, whoever ends it. */
  settle(tenant: Tenant, answer: MessageRecord): Promise<void>
}

const NOTHING: Reservation = { raise: () => undefined, giveBack: () => undefined }

/** All users of a tenant together never get more than the environment allows them: others' share depends on it. */
function budgetsInForce(own: OwnSettings, { budgets }: Spending): InForce[] {
  return BUDGETS.flatMap((one) => {
    const [mine, given] = [own[one.name] ?? null, budgets[one.name]]
    const both = mine !== null && given !== null
    const limit = both && one.budget === 'tenant' ? Math.min(mine, given) : (mine ?? given)
    return limit === null ? [] : [{ ...one, limit }]
  })
}

/** Question, system prompt and answer. */
const askedFor = (own: OwnSettings, spending: Spending, questionTokens: number): number =>
  questionTokens +
  (own.systemPrompt === undefined ? spending.systemPromptTokens : estimateTokens(own.systemPrompt)) +
  ((own.answerTokens ?? spending.answerTokens) || RESERVED_ANSWER_TOKENS)

/** A text that stands elsewhere was counted when it was written. */
const contextTokens = ({ content, content_key, token_count }: MessageRecord): number =>
  content_key === null ? estimateTokens(content) : (token_count ?? 0)

const tokensOf = ({ token_count, metadata: { promptTokens } }: MessageRecord): number =>
  (token_count ?? 0) + (typeof promptTokens === 'number' ? promptTokens : 0)

/** Of a day of UTC: itself and its month, as counters are named. */
const periodsOf = (day: string) => ({ day, month: day.slice(0, 7) })
const dayOf = (date: Date): string => date.toISOString().slice(0, 10)

function endOf(period: QuotaDetails['period'], day: string): string {
  const [year = 0, month = 0, date = 0] = day.split('-').map(Number)
  return new Date(
    period === 'day' ? Date.UTC(year, month - 1, date + 1) : Date.UTC(year, month, 1),
  ).toISOString()
}

/** Of those that have no room the one that is there again last. */
function refusalOf(
  inForce: readonly InForce[],
  used: readonly number[],
  asked: number,
  day: string,
): QuotaDetails {
  const [last] = inForce
    .map((one, index) => ({ ...one, used: used[index] ?? 0, resetsAt: endOf(one.period, day) }))
    .filter((one) => one.used + asked > one.limit)
    .sort((a, b) => b.resetsAt.localeCompare(a.resetsAt))
  if (last === undefined) throw new Error('reserving refused, and no budget is used up')
  const { budget, period, limit, resetsAt } = last
  return { budget, period, limit, used: last.used, resetsAt }
}

export interface BudgetingTimes {
  /** Milliseconds that a turn holds tokens for which nobody ends. */
  holdMs?: number
  /** Milliseconds that Postgres is waited for. */
  patienceMs?: number
}

export function openBudgeting(
  { valkey, source, settingsOf, count }: Pick<Means, 'valkey' | 'source' | 'settingsOf' | 'count'>,
  { holdMs = HOLD_MS, patienceMs = PATIENCE_MS }: BudgetingTimes = {},
): Budgeting {
  /** Turns that this instance ends and that may hold something. */
  const holding = boundedMap<true>()
  const askingPostgres = together<TokensUsed>()

  async function hold(
    { tenant, messageId }: Spender,
    { inForce, owner, day, asked }: { inForce: InForce[]; owner: string; day: string; asked: number },
  ): Promise<number | undefined> {
    const user = encodeURIComponent(owner)
    const keys = inForce.map(({ budget, period }) =>
      tokensKey(tenant, budget === 'user' ? owner : '', periodsOf(day)[period]),
    )
    const attempt = (used?: TokensUsed) =>
      valkey.run<string[]>(
        scripts.reserve,
        [reservedKey(tenant), ...keys],
        [
          messageId,
          user,
          day,
          asked,
          holdMs,
          ...inForce.flatMap(({ name, budget, period, limit }) => [
            budget,
            period,
            limit,
            used?.[name] ?? '',
          ]),
        ],
      )
    let [outcome, ...rest] = await attempt()
    if (outcome === 'miss') {
      // Turns of all users ask together where none has a budget of its own.
      const whose = inForce.some(({ budget }) => budget === 'user') ? owner : ''
      const asking = askingPostgres(JSON.stringify([tenant.companyId, tenant.platform, whose]), () =>
        source.tokensUsed(tenant, whose, new Date()),
      )
      const used = await inTime(patienceMs, asking).catch(() => undefined)
      if (used === undefined) {
        count('BudgetsUnchecked')
        return undefined
      }
      ;[outcome, ...rest] = await attempt(used)
    }
    if (outcome === 'refused')
      throw notOpened({ code: 'quota_exceeded', ...refusalOf(inForce, rest.map(Number), asked, day) })
    return Number(rest[0])
  }

  return {
    async reserve(spender) {
      const { tenant, messageId, spending } = spender
      if (spending === undefined) return NOTHING
      const own = await settingsOf(tenant)
      const inForce = budgetsInForce(own, spending)
      if (inForce.length === 0) return NOTHING
      const [owner, questionTokens] = await Promise.all([spender.owner(), spender.questionTokens()])
      const day = dayOf(new Date())
      const asked = askedFor(own, spending, questionTokens)
      const heldUntil = await hold(spender, { inForce, owner, day, asked })
      if (heldUntil === undefined) return NOTHING
      const name = placeKey(tenant, messageId)
      holding.set(name, true)
      // Commands of one connection stay in order: whatever this instance asks next sees them.
      return {
        raise(history) {
          const most = own.historyTokens ?? spending.historyTokens
          const more = Math.min(
            most,
            history.reduce((sum, message) => sum + contextTokens(message), 0),
          )
          if (more === 0) return
          const held = `${asked + more} ${heldUntil} ${day} ${encodeURIComponent(owner)}`
          valkey.command('HSET', reservedKey(tenant), [messageId, held]).catch(() => undefined)
        },
        giveBack() {
          holding.delete(name)
          valkey.command('HDEL', reservedKey(tenant), [messageId]).catch(() => undefined)
        },
      }
    },

    inherit: (tenant, messageId) => holding.set(placeKey(tenant, messageId), true),

    async settle(tenant, answer) {
      const name = placeKey(tenant, answer.id)
      if (!holding.has(name)) return
      const periods = Object.values(periodsOf(dayOf(new Date(answer.created_at))))
      const keys: Keys = [
        reservedKey(tenant),
        ...[answer.user_id, ''].flatMap((owner) => periods.map((period) => tokensKey(tenant, owner, period))),
      ]
      try {
        await valkey.run(scripts.settle, keys, [answer.id, tokensOf(answer)])
        holding.delete(name)
      } catch {
        // The answer matters more: what it used is counted in Postgres, where new counters begin.
        count('BudgetsUnchecked')
      }
    },
  }
}
