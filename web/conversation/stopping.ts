/** Ends the answer that is being written where it is. */
import type { Api } from '../api.ts'
import { pause } from '../network.ts'
import type { Held } from './held.ts'
import { runningTurn } from './state.ts'
import type { Turn } from './turn.ts'

/** A stop that does not get through is tried so often. */
const STOP_TRIES = 5
const STOP_AGAIN_MS = 1_000

/** An answer without a name yet is stopped as soon as it has one (answering.ts). */
export function stopRunning(held: Held, api: Api): void {
  const turn = runningTurn(held.state.value)
  if (turn === undefined || turn.stopping || turn.phase === 'waiting') return
  held.patchTurn(turn.key, () => ({ stopping: true }))
  void requestStop(held, api, turn)
}

export const isStopping = ({ state }: Held, key: string): boolean =>
  state.value.turns.some((turn) => turn.key === key && turn.stopping)

/** Asks until the server knows or the answer has ended; where it never hears, one may press again. */
export async function requestStop(held: Held, api: Api, { key, messageId }: Turn): Promise<void> {
  if (messageId === null) return
  for (let tries = 1; isStopping(held, key); tries += 1) {
    try {
      return await api.stop(messageId)
    } catch {
      if (tries >= STOP_TRIES) return held.patchTurn(key, () => ({ stopping: false }))
      await pause(STOP_AGAIN_MS * tries)
    }
  }
}
