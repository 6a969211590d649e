import { setImmediate as nextTurn } from 'node:timers/promises'

/**
 * Resolves when the model's request has left that is being made now. Its client lets the loop turn once before it uses a
 * connection that was idle, so that it hears first if that was closed; what else is to be sent would overtake it.
 */
export async function modelAsked(): Promise<void> {
  await nextTurn()
  await nextTurn()
}
