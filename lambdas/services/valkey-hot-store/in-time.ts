import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import { CodedError } from '../../protocol/errors.ts'

/**
 * Postgres may sleep, and a cache be silent: what it has not said by then is `unavailable`. The work itself goes on. The
 * answer may be there, and this process was busy or frozen: it is given one more turn of the loop.
 */
export const inTime = <Result>(ms: number, work: Promise<Result>, of = 'The database'): Promise<Result> =>
  Promise.race([
    work,
    sleep(ms, undefined, { ref: false })
      .then(() => nextTurn(undefined, { ref: false }))
      .then(() => {
        throw new CodedError('unavailable', `${of} takes too long to answer.`)
      }),
  ])
