/** Which environment a command looks at, and how its services are reached. */
import { WrongEnvironment } from './failures.ts'
import { isOnThisMachine, readLocal, type Variables } from './local.ts'

/** Each is an output of the service stack, in another spelling (docs/runbook.md has the line that sets them all). */
export const NAMES = [
  'TURNS_QUEUE_URL',
  'TURNS_DEAD_QUEUE_URL',
  'JOBS_DEAD_QUEUE_URL',
  'SCHEDULES_DEAD_QUEUE_URL',
  'CONTENT_BUCKET',
  'DATABASE_CLUSTER_ARN',
  'DATABASE_SECRET_ARN',
  'DATABASE_NAME',
  'DATABASE_PAUSES',
  'HOT_STORE',
  'METRICS_NAMESPACE',
  'VALKEY_CACHE_NAME',
] as const
export type Name = (typeof NAMES)[number]

export type Service = 'SQS' | 'S3' | 'RDS_DATA' | 'CLOUDWATCH' | 'ELASTICACHE'

interface Reach {
  region: string
  endpoint?: string
  /** Absent: the SDK looks for them. */
  credentials?: { accessKeyId: string; secretAccessKey: string }
  requestHandler: { connectionTimeout: number; requestTimeout: number }
}

export interface Environment {
  /** For people to see that it is the one they meant. */
  title: string
  isLocal: boolean
  /** Of a name that was required, its value; of another one, its value or nothing. */
  values: Partial<Record<Name, string>>
  /** Options for the client of a service. Undefined: the local cloud has no such service. */
  reach(service: Service): Reach | undefined
}

/** An operator waits for the answer. */
const CONNECT_TIMEOUT_MS = 3_000
const REQUEST_TIMEOUT_MS = 15_000

/** The local cloud tells these to nobody: it has them only one way. */
const LOCAL_DEFAULTS: Partial<Record<Name, string>> = {
  DATABASE_PAUSES: 'false',
  HOT_STORE: 'postgres',
  METRICS_NAMESPACE: 'Turnkeep',
}
const LOCAL_REGION = 'us-east-1'

/**
 * The variables where one of them is set, else the Turnkeep that runs on this machine. Throws WrongEnvironment, which
 * names all that is missing, and where names are of two regions: half of one environment and half of another would
 * look like a third.
 */
export function findEnvironment(
  { local, needs }: { local: boolean; needs: readonly Name[] },
  variables: Variables,
): Environment {
  const isNamed = !local && NAMES.some((name) => variables[name])
  const given = isNamed ? variables : localVariables(variables)
  const isLocal =
    !isNamed || (URL.canParse(given.TURNS_QUEUE_URL ?? '') && isOnThisMachine(given.TURNS_QUEUE_URL ?? ''))
  const values = { ...(isLocal ? LOCAL_DEFAULTS : {}), ...named(given) }
  const missing = needs.filter((name) => !values[name])
  if (missing.length > 0) throw new WrongEnvironment(`${missing.join(', ')}: not set. ${HOW_TO_NAME_ONE}`)
  const region = isLocal ? LOCAL_REGION : regionOf(values, variables)
  return {
    title: isLocal ? 'this machine' : `${values.METRICS_NAMESPACE ?? 'an environment'} in ${region}`,
    isLocal,
    values,
    reach(service) {
      const endpoint =
        given[`AWS_ENDPOINT_URL_${service}`] || (service === 'SQS' ? originOf(values) : undefined)
      if (isLocal && endpoint === undefined) return undefined
      return {
        region,
        ...(endpoint !== undefined && { endpoint }),
        // The local cloud takes any, and a developer's own are no business of it.
        ...(isLocal && { credentials: { accessKeyId: 'local', secretAccessKey: 'local' } }),
        requestHandler: { connectionTimeout: CONNECT_TIMEOUT_MS, requestTimeout: REQUEST_TIMEOUT_MS },
      }
    },
  }
}

const HOW_TO_NAME_ONE =
  'docs/runbook.md, "At a glance", has the line that sets the variables of an environment.'

function localVariables(variables: Variables): Variables {
  const { file, found } = readLocal(variables)
  if (found !== undefined) return found
  throw new WrongEnvironment(
    `Which environment? None is named, and no Turnkeep runs on this machine (there is no ${file}). ${HOW_TO_NAME_ONE}`,
  )
}

const named = (variables: Variables): Partial<Record<Name, string>> =>
  Object.fromEntries(NAMES.flatMap((name) => (variables[name] ? [[name, variables[name]]] : [])))

/** The SDK prefers the queue's host to everything; said outright, it is the same for all calls. */
const originOf = ({ TURNS_QUEUE_URL }: Partial<Record<Name, string>>): string | undefined =>
  TURNS_QUEUE_URL === undefined ? undefined : new URL(TURNS_QUEUE_URL).origin

const QUEUE_NAMES = [
  'TURNS_QUEUE_URL',
  'TURNS_DEAD_QUEUE_URL',
  'JOBS_DEAD_QUEUE_URL',
  'SCHEDULES_DEAD_QUEUE_URL',
] as const

/** As the names say it: they are right also where the shell has another region as its default. */
function regionOf(values: Partial<Record<Name, string>>, { AWS_REGION }: Variables): string {
  const said = new Map<string, string>()
  for (const name of QUEUE_NAMES) {
    const url = values[name]
    if (url === undefined) continue
    if (!/^https?:\/\/[^/]+\/./.test(url)) throw new WrongEnvironment(`${name} is not the URL of a queue.`)
    const region = /^sqs\.([\w-]+)\.amazonaws\./.exec(new URL(url).hostname)?.[1]
    if (region !== undefined) said.set(name, region)
  }
  if (values.DATABASE_CLUSTER_ARN !== undefined) {
    const region = /^arn:[\w-]+:rds:([\w-]+):\d+:cluster:./.exec(values.DATABASE_CLUSTER_ARN)?.[1]
    if (region === undefined) throw new WrongEnvironment('DATABASE_CLUSTER_ARN is not the ARN of a cluster.')
    said.set('DATABASE_CLUSTER_ARN', region)
  }
  if (AWS_REGION) said.set('AWS_REGION', AWS_REGION)
  const regions = [...new Set(said.values())]
  if (regions.length > 1)
    throw new WrongEnvironment(
      `Which region? ${[...said].map(([name, region]) => `${name} is in ${region}`).join(', ')}.`,
    )
  const [region] = regions
  if (region === undefined) throw new WrongEnvironment(`AWS_REGION: not set. ${HOW_TO_NAME_ONE}`)
  if (!/^[a-z]{2,}(-[a-z]+)+-\d+$/.test(region)) throw new WrongEnvironment(`${region} is not a region.`)
  return region
}
