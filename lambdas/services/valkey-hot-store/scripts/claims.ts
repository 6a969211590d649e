/** Idempotency keys. One key: the caller's key. */
import { script } from './prelude.ts'

/**
 * ARGV: claim. Claims the key for a day, unless it is claimed already.
 * Returns {claim, age}: whose it is, and since how many milliseconds.
 */
export const claim = script(
  'claim',
  `
redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', DAY)
return {redis.call('GET', KEYS[1]), DAY - redis.call('PTTL', KEYS[1]), whole(now())}
`,
)

/** ARGV: claim. Gives it back, if it is still this one. */
export const release = script(
  'release',
  `
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
`,
)
