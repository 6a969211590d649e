/**
 * The same product as an always-on container: Fargate behind a load balancer, with a driver instead of the Data API.
 * Its answers wait for the model without being billed for it; in return it is there day and night.
 */
import { assumptions } from './assumptions.ts'
import type { Consumption } from './consumption.ts'
import { type Line, line, total } from './prices.ts'
import type { Load } from './turns.ts'

/** Where the container keeps its data: in the environment's own cluster, or in a plain instance on RDS. */
export type Database = 'aurora' | 'rds'

export interface Size {
  tasks: number
  /** Of each. */
  vcpu: number
}

/** One of the sizes that Fargate has; memory is twice as many gigabytes. */
const VCPUS = [0.25, 0.5, 1, 2, 4, 8, 16]
const GB_PER_VCPU = 2
const RDS_GB = 20

const isDouble = (environment: string): boolean => environment !== 'dev'
const leastSize = (environment: string): Size =>
  isDouble(environment) ? { tasks: 2, vcpu: 0.5 } : { tasks: 1, vcpu: 0.25 }

/** For the busiest minute, by the processor time that a turn was measured to take. */
export function busySize(environment: string, { functionsCpuMs }: Consumption, { turns }: Load): Size {
  if (functionsCpuMs === null) throw new Error('The measurement holds no processor time: measure on Linux.')
  const { busyHoursAMonth, peakOverMean, taskUtilisation } = assumptions
  const busyMean = (turns * functionsCpuMs) / (busyHoursAMonth * 3_600_000)
  const cores = (busyMean * peakOverMean) / taskUtilisation
  const least = leastSize(environment)
  const most = VCPUS.at(-1) ?? 0
  const tasks = Math.max(least.tasks, Math.ceil(cores / most))
  return { tasks, vcpu: VCPUS.find((vcpu) => vcpu >= Math.max(least.vcpu, cores / tasks)) ?? most }
}

interface Options {
  environment: string
  consumption: Consumption
  load: Load
  database: Database
  /** The serverless environment's, for what both have. */
  serverless: readonly Line[]
}

/** Without what is the same in both: CDN, logs, metrics, alarms, secrets. */
export function containerCost(options: Options): Line[] {
  const { environment, consumption, load } = options
  const { hoursAMonth, busyHoursAMonth } = assumptions
  const [busy, least] = [busySize(environment, consumption, load), leastSize(environment)]
  const quiet = hoursAMonth - busyHoursAMonth
  const vcpuHours = busyHoursAMonth * busy.tasks * busy.vcpu + quiet * least.tasks * least.vcpu
  const streamedGb = (load.turns * consumption.viewer.receivedBytes) / 1e9
  return [
    line('Fargate', `processor, ${busy.tasks} x ${busy.vcpu} while it is busy`, vcpuHours, 'fargateVcpuHour'),
    line('Fargate', 'memory', vcpuHours * GB_PER_VCPU, 'fargateGbHour'),
    line('Load balancer', 'hours', hoursAMonth, 'albHour'),
    // A unit is a GB an hour, or 25 new connections a second: one is enough for long.
    line('Load balancer', 'units', Math.max(hoursAMonth, streamedGb), 'albLcuHour'),
    // The balancer has one in each of two zones, and so has each task, which then needs no NAT.
    line('VPC', 'public addresses', (2 + busy.tasks) * hoursAMonth, 'publicAddressHour'),
    ...databaseOf(options),
    ...options.serverless.filter(({ service }) => service === 'Transfer'),
  ]
}

function databaseOf({ environment, consumption, load, database, serverless }: Options): Line[] {
  if (database === 'aurora')
    return serverless.filter(({ service, price }) => service === 'Aurora' && price !== 'dataApiRequest')
  const { hoursAMonth } = assumptions
  const gigabytes = RDS_GB + (load.turns * consumption.database.storedBytes) / 1e9
  return isDouble(environment)
    ? [
        line('RDS', 'db.t4g.medium and its standby', hoursAMonth, 'rdsMediumMultiAzHour'),
        line('RDS', 'storage, twice', gigabytes, 'rdsMultiAzStorageGb'),
      ]
    : [
        line('RDS', 'db.t4g.micro', hoursAMonth, 'rdsMicroHour'),
        line('RDS', 'storage', gigabytes, 'rdsStorageGb'),
      ]
}

/** Of the serverless environment's lines those that a container has otherwise, or not at all. */
export const differing = (lines: readonly Line[]): Line[] =>
  lines.filter(({ service }) => DIFFERING.includes(service))
const DIFFERING = ['Aurora', 'Lambda', 'SQS', 'S3', 'EventBridge', 'ElastiCache', 'Transfer']

const MOST_TURNS = 1e9

/**
 * Turns a month from which the container is cheaper: 0 where it is from the first, Infinity where it never is. Both
 * grow evenly enough for halving.
 */
export function breakEven(
  sums: (turns: number) => { serverless: readonly Line[]; container: readonly Line[] },
): number {
  const isDearer = (turns: number): boolean => {
    const { serverless, container } = sums(turns)
    return total(differing(serverless)) > total(container)
  }
  if (isDearer(0)) return 0
  if (!isDearer(MOST_TURNS)) return Number.POSITIVE_INFINITY
  let [cheaper, dearer] = [0, MOST_TURNS]
  while (dearer - cheaper > 100) {
    const middle = (cheaper + dearer) / 2
    if (isDearer(middle)) dearer = middle
    else cheaper = middle
  }
  return Math.round(dearer / 100) * 100
}
