import { setTimeout as sleep } from 'node:timers/promises'
import { CodedError } from '../../protocol.ts'

/** Postgres may sleep: what it has not said by then is `unavailable`. The work itself goes on. */
export const inTime = <Result>(ms: number, work: Promise<Result>): Promise<Result> =>
  Promise.race([
    work,
    sleep(ms, undefined, { ref: false }).then(() => {
      throw new CodedError('unavailable', 'The database takes too long to answer.')
    }),
  ])
