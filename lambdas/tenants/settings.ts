/** Which settings act: the environment's, and over them what the tenant has set. */
import type { OwnSettings, TenantBounds, TenantSettings } from '../protocol/tenants.ts'

export interface TenantDefaults {
  settings: TenantSettings
  /** What a tenant may choose from; the default is one of them. */
  models: readonly string[]
}

/** What the environment's variables say, of those that a tenant may override. */
interface Environment {
  allowedModels: readonly string[]
  answerTokens: number
  chatModel: string
  historyMessages: number
  historyTokens: number
  systemPrompt: string
  watchedWords: string[]
  rateLimitUser: number
  rateLimitTenant: number
  tokensUserDay: number | undefined
  tokensUserMonth: number | undefined
  tokensTenantDay: number | undefined
  tokensTenantMonth: number | undefined
  archiveAfterDays: number
  archiveAboveMessages: number
}

export const defaultsOf = (environment: Environment): TenantDefaults => ({
  settings: {
    model: environment.chatModel,
    systemPrompt: environment.systemPrompt,
    historyMessages: environment.historyMessages,
    historyTokens: environment.historyTokens,
    answerTokens: environment.answerTokens,
    watchedWords: environment.watchedWords,
    userRequestsPerMinute: environment.rateLimitUser,
    tenantRequestsPerMinute: environment.rateLimitTenant,
    userTokensPerDay: environment.tokensUserDay ?? null,
    userTokensPerMonth: environment.tokensUserMonth ?? null,
    tenantTokensPerDay: environment.tokensTenantDay ?? null,
    tenantTokensPerMonth: environment.tokensTenantMonth ?? null,
    archiveAfterDays: environment.archiveAfterDays,
    archiveAboveMessages: environment.archiveAboveMessages,
    retentionDays: null,
  },
  models: [...new Set([environment.chatModel, ...environment.allowedModels])],
})

/** What a tenant's admins may choose. */
export const boundsOf = ({ settings, models }: TenantDefaults): TenantBounds => ({
  models,
  maxRequestsPerMinute: settings.tenantRequestsPerMinute,
  maxTokensPerDay: settings.tenantTokensPerDay,
  maxTokensPerMonth: settings.tenantTokensPerMonth,
})

/** The smaller of two; null: no limit. */
const least = (one: number | null, other: number | null): number | null =>
  one === null ? other : other === null ? one : Math.min(one, other)

/** What the environment does not allow any more, a model or so many requests, gives way to what it does. */
export function effectiveSettings({ settings, models }: TenantDefaults, own: OwnSettings): TenantSettings {
  const chosen = { ...settings, ...own }
  return {
    ...chosen,
    model: models.includes(chosen.model) ? chosen.model : settings.model,
    tenantRequestsPerMinute: Math.min(chosen.tenantRequestsPerMinute, settings.tenantRequestsPerMinute),
    tenantTokensPerDay: least(chosen.tenantTokensPerDay, settings.tenantTokensPerDay),
    tenantTokensPerMonth: least(chosen.tenantTokensPerMonth, settings.tenantTokensPerMonth),
  }
}
