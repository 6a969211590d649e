/** Thrown where a run has no time left; the next one goes on. */
export class OutOfTime extends Error {}

/** Between two calls, each of which is short. Throws OutOfTime. */
export function continueIfTime({ timeLeft }: { timeLeft: () => number }): void {
  if (timeLeft() <= 0) throw new OutOfTime('the rest is for the next run')
}
