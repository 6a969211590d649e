/** The other side of a watch message: is the turn's writer still alive? */
import type { WatchedTurn } from '../services/hot-store.ts'
import type { Log } from './log.ts'
import { type RescueServices, rescue } from './rescue.ts'

const MARGIN_SECONDS = 1

/**
 * Ends the watched turns whose writers are gone and keeps watching those that run. Throws CodedError `unavailable`
 * where that is not possible now; looking again does no harm.
 */
export async function lookAfter(
  services: RescueServices,
  watched: readonly WatchedTurn[],
  log: Log,
): Promise<void> {
  if (watched.length === 0) return
  for (const { lapsesInSeconds, ...turn } of await services.hotStore.unfinished(watched)) {
    const { companyId, platform, messageId } = turn
    const tenant = { companyId, platform }
    if (lapsesInSeconds <= 0) await rescue(services, tenant, messageId, log)
    else {
      const delaySeconds = Math.ceil(lapsesInSeconds) + MARGIN_SECONDS
      await services.queue.send([{ tenant, body: { watch: turn }, delaySeconds }])
    }
  }
}
