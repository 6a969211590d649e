/** What an environment says about tokens, as tests of budgets ask with it. */
import type { Budgets } from '../../lambdas/protocol/tenants.ts'
import type { Spending } from '../../lambdas/services/hot-store.ts'

export const NO_BUDGETS: Budgets = {
  userTokensPerDay: null,
  userTokensPerMonth: null,
  tenantTokensPerDay: null,
  tenantTokensPerMonth: null,
}

/** Nothing but the budgets, the question and an answer of so many tokens. */
export const spending = (budgets: Partial<Budgets> = {}, answerTokens = 88): Spending => ({
  budgets: { ...NO_BUDGETS, ...budgets },
  systemPromptTokens: 0,
  answerTokens,
  historyTokens: 0,
})
