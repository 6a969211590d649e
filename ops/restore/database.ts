/** Postgres, as far as a restore writes it. Each call is a transaction, and may be repeated. */
import type { Tenant } from '../../lambdas/protocol.ts'
import { openDataApi } from '../data-api.ts'
import type { Environment } from '../environment.ts'

export type Outcome = 'restored' | 'replaced' | 'present' | 'erased'

export interface Restoring {
  /** Lines of one tenant, at most 1 MB of them, each message once. Returns what became of each. */
  put(tenant: Tenant, lines: readonly string[]): Promise<Map<string, Outcome>>
  /** An object whose messages are all back. */
  adopt(tenant: Tenant, key: string, object: object, segments: readonly object[]): Promise<void>
}

export function openRestoring(environment: Environment, abortSignal: AbortSignal): Restoring {
  const call = openDataApi(environment, abortSignal)
  const of = ({ companyId, platform }: Tenant): [string, string][] => [
    ['text', companyId],
    ['text', platform],
  ]

  return {
    async put(tenant, lines) {
      const rows = await call<{ id: string; outcome: Outcome }>('restore_messages', [
        ...of(tenant),
        ['text', `[${lines.join()}]`],
      ])
      return new Map(rows.map(({ id, outcome }) => [id, outcome]))
    },
    async adopt(tenant, key, object, segments) {
      await call('adopt_archive_object', [
        ...of(tenant),
        ['text', key],
        ['jsonb', JSON.stringify(object)],
        ['jsonb', JSON.stringify(segments)],
      ])
    },
  }
}
