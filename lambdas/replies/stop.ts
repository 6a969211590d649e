/** Stopping an answer from anywhere: a flag that its writer looks at several times a second. */
import { CodedError } from '../protocol/errors.ts'
import type { Reader } from './follow.ts'
import { type RescueServices, rescue } from './rescue.ts'

/**
 * True: the answer was running and has been told to stop; its stream ends with `done`, finishReason `stopped`. False:
 * it had ended already, and nothing changes. One whose writer is gone is ended here. Refuses `not_found`.
 */
export async function stop(services: RescueServices, reader: Reader, messageId: string): Promise<boolean> {
  const turn = await services.hotStore.requestStop(reader.tenant, reader.ownedBy, messageId)
  if (turn === undefined) throw new CodedError('not_found', 'There is no such reply.')
  if (turn.lapsed) await rescue(services, reader.tenant, messageId, reader.log)
  return !turn.finished
}
