/** Writing a turn's answer, up to its end, for whoever holds its lease. Each may be run twice. */
import { KEEPING } from './history.ts'
import { script } from './prelude.ts'

/** Whether the epoch may write; renews the lease and appends batches (first, count, body). */
const WRITING = `
local function held(turn, epoch)
  local t = redis.call('HMGET', turn, 'state', 'epoch')
  if not t[1] then return 'unknown' end
  return (t[1] ~= 'f' and t[2] == epoch) and t[1] or 'lost'
end
local function log(turn, log, first, count, body)
  local after = first + count
  if first >= tonumber(redis.call('HGET', turn, 'next')) then
    redis.call('XADD', log, whole(after) .. '-0', 'e', body)
    redis.call('HSET', turn, 'next', whole(after))
    expire(KEPT, log)
  end
end
local function renew(turn, running, id, leaseMs)
  local saved = redis.call('HEXISTS', turn, 'saved') == 1
  local lease = saved and '0' or whole(now() + tonumber(leaseMs))
  redis.call('HSET', running, id, lease .. ' ' .. redis.call('HGET', turn, 'question_id'))
  expire(KEPT, running)
end
`

/**
 * KEYS: turn, running, log. ARGV: message id; epoch; lease ms; then first, count and body of each batch.
 * Returns 'unknown', 'lost', 'held' or 'stop'.
 */
export const append = script(
  'append',
  `${WRITING}
local state = held(KEYS[1], ARGV[2])
if state == 'unknown' or state == 'lost' then return state end
for i = 4, #ARGV, 3 do log(KEYS[1], KEYS[3], tonumber(ARGV[i]), tonumber(ARGV[i + 1]), ARGV[i + 2]) end
renew(KEYS[1], KEYS[2], ARGV[1], ARGV[3])
return redis.call('HGET', KEYS[1], 'stop') and 'stop' or 'held'
`,
)

/**
 * KEYS: turn, running, log, session. ARGV: message id; epoch; lease ms; the answer's entry; then batches as above.
 * Returns 'unknown', 'lost', or the session's message count.
 */
export const close = script(
  'close',
  `${WRITING}
local state = held(KEYS[1], ARGV[2])
if state == 'unknown' or state == 'lost' then return state end
for i = 5, #ARGV, 3 do log(KEYS[1], KEYS[3], tonumber(ARGV[i]), tonumber(ARGV[i + 1]), ARGV[i + 2]) end
renew(KEYS[1], KEYS[2], ARGV[1], ARGV[3])
local known = redis.call('HEXISTS', KEYS[4], 'user') == 1
if state == 'r' then
  redis.call('HSET', KEYS[1], 'state', 'c', 'answer', ARGV[4])
  if known then redis.call('HINCRBY', KEYS[4], 'count', 1) end
end
if known then expire(DAY, KEYS[4]) end
return known and redis.call('HGET', KEYS[4], 'count') or redis.call('HGET', KEYS[1], 'sequence')
`,
)

/**
 * KEYS: turn, running, log, session, history, order, unsaved. ARGV: message id; epoch; event id; its body; most to keep.
 * Returns 'unknown', 'lost' or 'finished'.
 */
export const finish = script(
  'finish',
  `${KEEPING}${WRITING}
local turn, running, events, session, history, order, unsaved = unpack(KEYS)
local id, epoch, event, body, bound = unpack(ARGV)
local state = held(turn, epoch)
if state == 'lost' and redis.call('HGET', turn, 'epoch') == epoch then
  -- Sent again: it ended with this very event.
  local last = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)[1]
  if last and last[2][2] == body and last[1] == whole(event + 1) .. '-0' then return 'finished' end
end
if state == 'unknown' then return state end
if state ~= 'c' then return 'lost' end
log(turn, events, tonumber(event), 1, body)
local t = redis.call('HMGET', turn, 'answer', 'opened_at')
redis.call('HSET', turn, 'state', 'f')
redis.call('HDEL', turn, 'question', 'answer', 'saved')
redis.call('HDEL', running, id)
redis.call('HSET', unsaved, id, t[1])
expire(KEPT, unsaved)
expire(DAY, turn, events)
-- What is being loaded at this moment does not have this answer.
redis.call('HINCRBY', history, '@version', 1)
-- A log is shown while its session can say that it was not purged.
redis.call('HSETNX', session, 'version', '0')
expire(DAY, session, history)
local newest = redis.call('HGET', history, '@newest')
if newest then
  keep(history, order, id, t[1], tonumber(bound))
  local last, at = string.match(newest, '^(%S+) (%d+)')
  if not last or tonumber(t[2]) > tonumber(at) or (t[2] == at and id > last) then
    redis.call('HSET', history, '@newest', id .. ' ' .. t[2])
  end
  expire(DAY, order)
end
return 'finished'
`,
)

/** KEYS: turn, running. ARGV: message id; lease ms. Returns the turn's fields and values; nothing: not to be had. */
export const takeOver = script(
  'take over',
  `
local turn, running = KEYS[1], KEYS[2]
local state = redis.call('HGET', turn, 'state')
if not state or state == 'f' then return {} end
local lease = string.match(redis.call('HGET', running, ARGV[1]) or '0', '^%d+')
local at = now()
if tonumber(lease) > at then return {} end
redis.call('HINCRBY', turn, 'epoch', 1)
redis.call('HSET', running, ARGV[1], whole(at + tonumber(ARGV[2])) .. ' ' .. redis.call('HGET', turn, 'question_id'))
expire(KEPT, running, turn)
return redis.call('HGETALL', turn)
`,
)
