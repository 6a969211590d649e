/** The product as the drills run it: short leases, the drill's model, and a proxy that can hurt every call. */
import { type Resources, resources } from '../../lib/resources.ts'
import { startTurnkeep, type Turnkeep, type TurnkeepOptions } from '../harness/turnkeep.ts'
import { drillModel } from './drill-model.ts'
import { createFaultProxy, type FaultProxy } from './fault-proxy.ts'

/** Whether the counts of the issue are run, or a few of each for every change. */
export const isLong = process.env.DRILLS === 'long'
export const rounds = (long: number, short: number): number => (isLong ? long : short)

/** The shortest lease there is: a drill waits for many to run out. */
export const LEASE_SECONDS = 1

/** As deployed, but what a dying consumer had in hand comes back while somebody still watches. */
const drillResources: Resources = {
  ...resources,
  queues: Object.fromEntries(
    Object.entries(resources.queues).map(([name, queue]) => [name, { ...queue, visibilitySeconds: 3 }]),
  ),
  eventSources: resources.eventSources.map((source) => ({ ...source, windowSeconds: 0.1 })),
}

export interface DrillCloud extends Turnkeep {
  proxy: FaultProxy
}

export async function startDrillCloud(options: TurnkeepOptions = {}): Promise<DrillCloud> {
  const proxy = createFaultProxy()
  const turnkeep = await startTurnkeep({
    resources: drillResources,
    scriptedModel: { respond: drillModel },
    ...options,
    environment: async (cloud) => ({
      LEASE_SECONDS: String(LEASE_SECONDS),
      ...(await proxy.environment(cloud)),
      ...(typeof options.environment === 'function' ? await options.environment(cloud) : options.environment),
    }),
  })
  return {
    ...turnkeep,
    proxy,
    close: async () => {
      await turnkeep.close()
      await proxy.close()
    },
  }
}
