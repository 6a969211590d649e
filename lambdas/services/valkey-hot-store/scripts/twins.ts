/** Turns that were opened here for nothing. */
import { script } from './prelude.ts'

/**
 * KEYS: session, history, order, running, unsaved, turn. ARGV: message id. Returns 1, or 0 where it is no empty turn. The
 * session and its thread are loaded again: its question may have another place there.
 */
export const forgetEmpty = script(
  'forget empty',
  `
local session, history, order, running, unsaved, turn = unpack(KEYS)
local t = redis.call('HMGET', turn, 'state', 'next', 'question_id', 'question')
if not t[1] or t[1] == 'f' or t[2] ~= '0' then return 0 end
if t[4] then redis.call('HDEL', unsaved, t[3]) end
redis.call('DEL', turn)
redis.call('HDEL', running, ARGV[1])
redis.call('HDEL', session, 'user', 'count')
redis.call('HINCRBY', session, 'version', 1)
expire(DAY, session)
forget_thread(history, order)
return 1
`,
)
