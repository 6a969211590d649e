/** The product as the drills run it: short leases, the drill's model, and a proxy that can hurt every call. */
import { describe } from 'vitest'
import { type Resources, resources } from '../../lib/resources.ts'
import { type BreakableRedis, redisAvailable, startRedis, whyNoRedis } from '../harness/redis.ts'
import { promptBatches, startTurnkeep, type Turnkeep, type TurnkeepOptions } from '../harness/turnkeep.ts'
import { drillModel } from './drill-model.ts'
import { createFaultProxy, type FaultProxy } from './fault-proxy.ts'

/** Whether the counts of the issue are run, or a few of each for every change. */
export const isLong = process.env.DRILLS === 'long'
export const rounds = (long: number, short: number): number => (isLong ? long : short)

/** Where a drill's turns live. The cluster has TLS and logins: the fault proxy cannot look into what is said to it. */
export interface Phase {
  name: string
  redis?: 'single' | 'cluster'
}
const PHASE_1: Phase = { name: 'phase 1' }
const ONE_VALKEY: Phase = { name: 'phase 2', redis: 'single' }
const A_CLUSTER: Phase = { name: 'phase 2, a cluster', redis: 'cluster' }

/**
 * The drill in each of these phases that can be had here. In the short form faults of other things than the cache are tried
 * in phase 1 alone, and the cluster in none: twice as many drills would not fit into the ten minutes of all tests.
 */
function inPhases(phases: readonly Phase[], tests: (phase: Phase) => void): void {
  for (const phase of phases) {
    const missing = phase.redis && !redisAvailable
    describe.skipIf(missing)(missing ? `${phase.name} (${whyNoRedis})` : phase.name, () => tests(phase))
  }
}
export const inEveryPhase = (tests: (phase: Phase) => void): void =>
  inPhases(isLong ? [PHASE_1, ONE_VALKEY, A_CLUSTER] : [PHASE_1], tests)
/** Where each call is aimed at. */
export const inProxiedPhases = (tests: (phase: Phase) => void): void =>
  inPhases(isLong ? [PHASE_1, ONE_VALKEY] : [PHASE_1], tests)
/** Faults of the cache itself. */
export const inPhaseTwo = (tests: (phase: Phase) => void): void =>
  inPhases(isLong ? [ONE_VALKEY, A_CLUSTER] : [ONE_VALKEY], tests)

/** As the table of results has it. */
export const inPhase = (fault: string, { redis, name }: Phase): string =>
  redis ? `${fault}, ${name}` : fault

/** A busy machine is no fault of the cache: drills of other faults wait for it. */
const PATIENT_MS = '5000'
/** As deployed. */
export const IMPATIENT = { VALKEY_PATIENCE_MS: '300' }

/** The shortest lease there is: a drill waits for many to run out. */
export const LEASE_SECONDS = 1

/** As deployed, but what a dying consumer had in hand comes back while somebody still watches. */
const drillResources: Resources = {
  ...promptBatches,
  queues: Object.fromEntries(
    Object.entries(resources.queues).map(([name, queue]) => [name, { ...queue, visibilitySeconds: 3 }]),
  ),
}

export interface DrillCloud extends Turnkeep {
  proxy: FaultProxy
  /** Its own, in phase 2. */
  cache: BreakableRedis | undefined
}

export interface DrillOptions extends TurnkeepOptions {
  phase?: Phase
  /** One that was started otherwise than the phase says; it is ended with the rest. */
  cache?: BreakableRedis | undefined
}

/** In phase 1, unless told otherwise. */
export async function startDrillCloud({
  phase = PHASE_1,
  cache: given,
  ...options
}: DrillOptions = {}): Promise<DrillCloud> {
  const proxy = createFaultProxy()
  const cache = given ?? (phase.redis && (await startRedis(phase.redis)))
  const turnkeep = await startTurnkeep({
    resources: drillResources,
    scriptedModel: { respond: drillModel },
    ...(cache && { valkey: cache }),
    ...options,
    environment: async (cloud) => ({
      LEASE_SECONDS: String(LEASE_SECONDS),
      VALKEY_PATIENCE_MS: PATIENT_MS,
      ...(await proxy.environment(cloud)),
      ...(typeof options.environment === 'function' ? await options.environment(cloud) : options.environment),
    }),
  })
  return {
    ...turnkeep,
    proxy,
    cache,
    close: async () => {
      await turnkeep.close()
      await proxy.close()
      await cache?.close()
    },
  }
}
