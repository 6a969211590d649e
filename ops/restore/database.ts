/** Postgres, as far as a restore writes it. Each call is a transaction, and may be repeated. */
import type { SegmentPlace } from '../../lambdas/ageing/segments.ts'
import type { Tenant } from '../../lambdas/protocol/callers.ts'
import { openDataApi } from '../data-api.ts'
import type { Environment } from '../environment.ts'

export type Outcome = 'restored' | 'replaced' | 'present' | 'erased'

/** A segment with the newest copies of some messages. */
export interface CopiesElsewhere extends SegmentPlace {
  message_ids: string[]
}

export interface Restoring {
  /** Lines of one tenant, at most 1 MB of them, each message once. Returns what became of each. */
  put(tenant: Tenant, lines: readonly string[]): Promise<Map<string, Outcome>>
  /** Where newer copies of some messages of an object lie, of those that have left and are known to lie elsewhere. */
  elsewhere(tenant: Tenant, key: string, ids: readonly string[]): Promise<CopiesElsewhere[]>
  /** Keys of objects that the database counts on. */
  known(tenant: Tenant): AsyncGenerator<string, void>
  /** One of them that is not there. Returns how many of its messages are nowhere else. */
  forgetLost(tenant: Tenant, key: string): Promise<number>
  /** An object whose messages are all back. */
  adopt(tenant: Tenant, key: string, object: object, segments: readonly object[]): Promise<void>
}

const OBJECTS_IN_CALL = 1_000

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
    async elsewhere(tenant, key, ids) {
      const rows = await call<{ body: string }>('copies_elsewhere', [
        ...of(tenant),
        ['text', key],
        ['jsonb', JSON.stringify(ids)],
      ])
      return rows.map(({ body }) => JSON.parse(body))
    },
    async *known(tenant) {
      for (let after = ''; ; ) {
        const rows = await call<{ key: string }>('read_objects', [
          ...of(tenant),
          ['text', after],
          ['integer', String(OBJECTS_IN_CALL)],
        ])
        for (const { key } of rows) yield key
        after = rows.at(-1)?.key ?? ''
        if (rows.length < OBJECTS_IN_CALL) return
      }
    },
    async forgetLost(tenant, key) {
      const [row] = await call<{ forget_lost_object: number }>('forget_lost_object', [
        ...of(tenant),
        ['text', key],
      ])
      return row?.forget_lost_object ?? 0
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
