/** A tenant's settings as its admins see and change them. */
import type { Caller } from '../protocol/callers.ts'
import { CodedError } from '../protocol/errors.ts'
import type { OwnSettings, TenantAnswer, TenantPatch } from '../protocol/tenants.ts'
import type { Database } from '../services/database.ts'
import { actorBody } from './audit.ts'
import { effectiveSettings, type TenantDefaults } from './settings.ts'

interface TenantRow {
  settings: string
  version: number
  changed_at: string | null
}

/** Of a tenant that has never set anything. */
const NOTHING_SET: TenantRow = { settings: '{}', version: 0, changed_at: null }

function toAnswer(defaults: TenantDefaults, { settings, version, changed_at }: TenantRow): TenantAnswer {
  const own: OwnSettings = JSON.parse(settings)
  return {
    settings: effectiveSettings(defaults, own),
    own,
    models: defaults.models,
    version,
    // The Data API returns times in UTC and does not say so.
    changedAt: changed_at === null ? null : new Date(`${changed_at}Z`).toISOString(),
  }
}

export async function getTenant(
  database: Database,
  defaults: TenantDefaults,
  caller: Caller,
): Promise<TenantAnswer> {
  const [row = NOTHING_SET] = await database.callFor<TenantRow>(caller, 'get_tenant', [])
  return toAnswer(defaults, row)
}

/**
 * Changes what is given; null takes a setting back. It acts from the next turn on. Refuses `conflict` where the version
 * that the change is meant for (undefined: whichever there is) has been changed meanwhile.
 */
export async function changeTenant(
  database: Database,
  defaults: TenantDefaults,
  caller: Caller,
  patch: TenantPatch,
  version: number | undefined,
): Promise<TenantAnswer> {
  const [row] = await database.callFor<TenantRow & { is_conflict: boolean }>(caller, 'change_tenant', [
    { jsonb: actorBody(caller) },
    { jsonb: patch },
    { integer: version ?? null },
  ])
  if (row === undefined) throw new Error('change_tenant returned no row')
  if (row.is_conflict)
    throw new CodedError('conflict', 'The settings have been changed since you read them.', {
      details: { version: row.version },
    })
  return toAnswer(defaults, row)
}
