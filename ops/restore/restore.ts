import { parseArgs } from 'node:util'
import { inOrder } from '../../lambdas/ageing/in-order.ts'
import type { Tenant } from '../../lambdas/protocol/callers.ts'
import { findEnvironment, type Name } from '../environment.ts'
import { UsageError } from '../failures.ts'
import type { Variables } from '../local.ts'
import { count, printable } from '../text.ts'
import { type ArchiveObject, openArchive } from './archive.ts'
import { openRestoring } from './database.ts'
import { restoreObject, type Wanted } from './restore-object.ts'
import { readTombstones, type Tombstones } from './tombstones.ts'

export const HELP = `npm run ops -- restore --from <key> --session <id> | --tenant <company>/<platform> | --all

Puts archived messages back into Postgres. What is there stays, unless the archive has a later version of it; what was erased
stays away. It may be interrupted and repeated: what is back is not put back twice.

  --from      an object of the archive, or the beginning of the keys of several: archive/, archive/acme/web/2026/
  --session   this one alone
  --tenant    all of this tenant; its names as they are, with %2F for a slash in them
  --all       whatever the objects hold
  --json      for machines
  --local     this machine's, whatever the environment says

Which: CONTENT_BUCKET, DATABASE_CLUSTER_ARN, DATABASE_SECRET_ARN and DATABASE_NAME, or else the Turnkeep that runs on this
machine; see docs/runbook.md. Ends with 0, with 1 when something could not be read or put back, with 2 when called wrongly.`

const OPTIONS = {
  from: { type: 'string' },
  session: { type: 'string' },
  tenant: { type: 'string' },
  all: { type: 'boolean' },
  json: { type: 'boolean' },
  local: { type: 'boolean' },
} as const

const NEEDS: readonly Name[] = [
  'CONTENT_BUCKET',
  'DATABASE_CLUSTER_ARN',
  'DATABASE_SECRET_ARN',
  'DATABASE_NAME',
]

/** Returns the exit code. */
export async function restore(args: string[], variables: Variables, signal: AbortSignal): Promise<number> {
  if (args.some((argument) => argument === '--help' || argument === '-h')) {
    console.log(HELP)
    return 0
  }
  const { from, wanted, json, local } = parse(args)
  const environment = findEnvironment({ local, needs: NEEDS }, variables)
  const archive = openArchive(environment, signal)
  const database = openRestoring(environment, signal)
  const total = { objects: 0, restored: 0, replaced: 0, present: 0, erased: 0 }
  const failures: string[] = []
  const tenants = new Map<string, { tenant: Tenant; tombstones: Promise<Tombstones> }>()
  async function* objects(): AsyncGenerator<ArchiveObject, void> {
    for await (const object of archive.objects(from))
      if (wanted.tenant === undefined || isSame(wanted.tenant, object.tenant)) yield object
  }
  const readable = async (object: ArchiveObject) => {
    const { tenant } = object
    const known = tenants.get(JSON.stringify(tenant)) ?? {
      tenant,
      tombstones: readTombstones(archive, tenant),
    }
    tenants.set(JSON.stringify(tenant), known)
    const [manifest, tombstones] = await Promise.all([archive.manifest(object), known.tombstones])
    return { object, manifest, tombstones }
  }
  // The next one is looked at while one is put back.
  for await (const found of inOrder(objects(), 2, readable)) {
    if (signal.aborted) break
    const { object } = found
    const { outcomes, failed } = await restoreObject({ archive, database }, found, wanted, signal)
    total.objects += 1
    for (const outcome of ['restored', 'replaced', 'present', 'erased'] as const)
      total[outcome] += outcomes[outcome]
    failures.push(...failed)
    if (!json) console.log(`${printable(object.key)}  ${said(outcomes)}`)
  }
  if (wanted.session === undefined)
    for (const { tenant } of tenants.values())
      for await (const key of database.known(tenant)) {
        if (signal.aborted) break
        if (!key.startsWith(from) || (await archive.has(key))) continue
        const lost = await database.forgetLost(tenant, key)
        if (lost > 0) failures.push(`${key}: it is gone, and ${lost} of its messages are nowhere else.`)
      }
  for (const failure of failures) console.error(printable(failure))
  if (json) console.log(JSON.stringify({ environment: environment.title, ...total, failures }, null, 2))
  else console.log(`${count(total.objects, 'object')}: ${said(total)}`)
  if (total.objects === 0 && !signal.aborted) console.error(`There is no object at ${printable(from)}.`)
  return failures.length > 0 || total.objects === 0 ? 1 : 0
}

type Outcomes = Record<'restored' | 'replaced' | 'present' | 'erased', number>

const said = ({ restored, replaced, present, erased }: Outcomes): string =>
  `${restored} put back, ${replaced} replaced by a later version, ${present} there already, ${erased} erased`

const isSame = (one: Wanted['tenant'], other: { companyId: string; platform: string }): boolean =>
  one?.companyId === other.companyId && one.platform === other.platform

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

function parse(args: string[]): { from: string; wanted: Wanted; json: boolean; local: boolean } {
  const { from, session, tenant, all = false, json = false, local = false } = valuesOf(args)
  if (from === undefined) throw new UsageError('Restore from where? --from names objects of the archive.')
  if (!from.startsWith('archive/')) throw new UsageError('--from must begin with archive/.')
  if ([session !== undefined, tenant !== undefined, all].filter(Boolean).length !== 1)
    throw new UsageError('Either --session, --tenant or --all.')
  if (session !== undefined && !UUID.test(session)) throw new UsageError('--session must be a UUID.')
  const [companyId, platform, ...rest] = (tenant ?? '').split('/').map(decoded)
  if (tenant !== undefined && (!companyId || !platform || rest.length > 0))
    throw new UsageError('--tenant must be <company>/<platform>.')
  return {
    from,
    json,
    local,
    wanted: {
      ...(session !== undefined && { session: session.toLowerCase() }),
      ...(companyId && platform && { tenant: { companyId, platform } }),
    },
  }
}

function decoded(name: string): string {
  try {
    return decodeURIComponent(name)
  } catch {
    throw new UsageError('--tenant must be <company>/<platform>.')
  }
}

function valuesOf(args: string[]) {
  try {
    return parseArgs({ args, options: OPTIONS }).values
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}
