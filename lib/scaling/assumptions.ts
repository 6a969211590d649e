import { savedASecond } from '../cost/measured.ts'

/** What neither a template nor a measurement of one turn says. Each may be argued about, here. */
export const assumptions = {
  /**
   * Messages a second that each run of persist brings to rows: two of them did twice that from queue to rows where everything
   * shared two cores (npm run bench, section save). In AWS the database has its own, and each call takes longer.
   */
  savedASecond: savedASecond() / 2,
  /** A statement holds a connection from the Data API's pool for so long: the round trip that the cost model has, at most. */
  statementMs: 15,
  /** Received a second before the batch is whole, at most, and deleted when it is saved. */
  inFlightSeconds: 2,
  /** Turns a second of one tenant in phase 1, whose limits stand in one row: docs/limits.md, two cores. */
  tenantTurnsASecond: 590,
  /** While the queue refuses: question and answer. */
  spooledATurn: 2,
  /** Of an ACU's 2 GiB; the rest of the formula is in limits.json. */
  connectionBytes: 9_531_392,
  acuBytes: 2 * 2 ** 30,
  secondsToScale: 10,
} as const
