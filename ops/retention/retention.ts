import { parseArgs } from 'node:util'
import { openDataApi } from '../data-api.ts'
import { findEnvironment, type Name } from '../environment.ts'
import { UsageError } from '../failures.ts'
import type { Variables } from '../local.ts'
import { printable, table } from '../text.ts'

export const HELP = `npm run ops -- retention [--dry-run] [--json] [--local]

What the next run of retention would do, tenant by tenant. It changes nothing, with or without --dry-run: the run itself is a
part of the archiver's, every day (docs/rights.md).

  --json      for machines
  --local     this machine's, whatever the environment says

Which: DATABASE_CLUSTER_ARN, DATABASE_SECRET_ARN and DATABASE_NAME, or else the Turnkeep that runs on this machine.`

const OPTIONS = {
  'dry-run': { type: 'boolean' },
  json: { type: 'boolean' },
  local: { type: 'boolean' },
} as const
const NEEDS: readonly Name[] = ['DATABASE_CLUSTER_ARN', 'DATABASE_SECRET_ARN', 'DATABASE_NAME']
const TENANTS_IN_CALL = 1_000

/** As turnkeep.retention_due names them, and what they are called here. */
const KINDS = {
  deletedSessions: 'deleted sessions',
  overdueSessions: 'sessions too old',
  deletedMessages: 'deleted messages',
  overdueMessages: 'messages too old',
  archiveObjects: 'archive objects',
  archivedMessages: 'messages in them',
  usersToHide: 'users to hide',
  auditLines: 'audit lines',
} as const

interface Due {
  companyId: string
  platform: string
  due: Record<keyof typeof KINDS, number>
}

/** Returns the exit code. */
export async function retention(args: string[], variables: Variables, signal: AbortSignal): Promise<number> {
  if (args.some((argument) => argument === '--help' || argument === '-h')) {
    console.log(HELP)
    return 0
  }
  const { json, local } = parse(args)
  const environment = findEnvironment({ local: local === true, needs: NEEDS }, variables)
  console.error(`${environment.title}\n`)
  const all: Due[] = []
  for await (const tenant of dueOf(openDataApi(environment, signal))) all.push(tenant)
  if (json) console.log(JSON.stringify(all, null, 2).split('\n').map(printable).join('\n'))
  else if (all.every(({ due }) => Object.values(due).every((count) => count === 0)))
    console.log('Nothing is due.')
  else console.log(table(all.map(toRow)))
  return 0
}

async function* dueOf(call: ReturnType<typeof openDataApi>): AsyncGenerator<Due, void> {
  let last = { company_id: '', platform: '' }
  for (;;) {
    const tenants = await call<typeof last>('list_tenants', [
      ['text', last.company_id],
      ['text', last.platform],
      ['integer', String(TENANTS_IN_CALL)],
    ])
    for (const tenant of tenants) {
      last = tenant
      const rows = await call<{ kind: keyof typeof KINDS; rows: number }>('retention_due', [
        ['text', tenant.company_id],
        ['text', tenant.platform],
      ])
      const counts = new Map(rows.map(({ kind, rows }) => [kind, rows]))
      const due = Object.keys(KINDS).map((kind) => [kind, counts.get(kind as keyof typeof KINDS) ?? 0])
      yield { companyId: tenant.company_id, platform: tenant.platform, due: Object.fromEntries(due) }
    }
    if (tenants.length < TENANTS_IN_CALL) return
  }
}

const toRow = ({ companyId, platform, due }: Due): Record<string, string> => ({
  tenant: `${companyId}/${platform}`,
  ...Object.fromEntries(
    Object.entries(KINDS).map(([kind, name]) => [name, String(due[kind as keyof typeof KINDS])]),
  ),
})

function parse(args: string[]) {
  try {
    return parseArgs({ args, options: OPTIONS }).values
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}
