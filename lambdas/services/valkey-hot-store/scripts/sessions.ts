/** Sessions and their recent history as Postgres knows them, and what happens to them beside their turns. */
import { script } from './prelude.ts'

/**
 * Puts what was loaded into the cache.
 * KEYS: session, history, order. ARGV: version that was there when it was asked for, user, message count,
 * the newest answer (`id at`, or `-`), most messages to keep, then id and entry of each message, oldest first.
 * Returns 0 where something has changed meanwhile: it has to be loaded again.
 */
export const put = script(
  'put',
  `
local session, history, order = KEYS[1], KEYS[2], KEYS[3]
if version_of(session, history) ~= ARGV[1] then return 0 end
if redis.call('HSETNX', session, 'user', ARGV[2]) == 1 then redis.call('HSET', session, 'count', ARGV[3]) end
redis.call('HSET', history, '@newest', ARGV[4])
for i = 6, #ARGV, 2 do
  if redis.call('HSET', history, ARGV[i], ARGV[i + 1]) == 1 then redis.call('RPUSH', order, ARGV[i]) end
end
while redis.call('LLEN', order) > tonumber(ARGV[5]) do
  redis.call('HDEL', history, redis.call('LPOP', order))
end
expire(DAY, session, history, order)
return 1
`,
)

/** KEYS: session. ARGV: what has become of it, 'ended' or 'deleted'. */
export const end = script(
  'end',
  `
redis.call('HSET', KEYS[1], ARGV[1], '1', 'ended', '1')
redis.call('HINCRBY', KEYS[1], 'version', 1)
expire(DAY, KEYS[1])
return 1
`,
)

/**
 * A message was deleted: its session and thread are loaded again, and its log is not shown any more.
 * KEYS: session, history, order, unsaved, turn. ARGV: message id.
 */
export const erase = script(
  'erase',
  `
local session, history, order, unsaved, turn = unpack(KEYS)
forget_thread(history, order)
redis.call('HDEL', unsaved, ARGV[1])
redis.call('HINCRBY', session, 'version', 1)
redis.call('HDEL', session, 'user', 'count')
expire(DAY, session)
if redis.call('EXISTS', turn) == 1 then redis.call('HSET', turn, 'erased', '1') end
return 1
`,
)

/**
 * A record stands in Postgres. An answer whose turn nobody has ended yet may be ended with it at once; one that this
 * cache has never heard of, because it was not there when the turn was opened, makes the thread be loaded again.
 * KEYS: session, history, order, running, unsaved, turn. ARGV: message id, when it was made (ms), entry where it is a
 * whole answer and not what a rescuer found ('' otherwise), 1 where it is any answer.
 */
export const saved = script(
  'saved',
  `
local session, history, order, running, unsaved, turn = unpack(KEYS)
redis.call('HDEL', unsaved, ARGV[1])
local state = redis.call('HGET', turn, 'state')
if state then
  if state ~= 'f' and ARGV[3] ~= '' then
    redis.call('HSET', turn, 'saved', ARGV[3])
    redis.call('HSET', running, ARGV[1], '0 ' .. redis.call('HGET', turn, 'question_id'))
  end
elseif ARGV[4] == '1' and redis.call('HEXISTS', history, ARGV[1]) == 0 then
  local newest = redis.call('HGET', history, '@newest')
  if newest and tonumber(string.match(newest, ' (%d+)$') or '0') <= tonumber(ARGV[2]) then
    forget_thread(history, order)
  end
end
return 1
`,
)

/**
 * Turns of this thread are opened elsewhere from now on: it is loaded again when one is opened here.
 * KEYS: session, history, order, running. Returns the turns that run here: id, lease left in ms, question id, ….
 */
export const leave = script(
  'leave',
  `
local session, history, order, running = unpack(KEYS)
if redis.call('EXISTS', session) == 1 then
  redis.call('HDEL', session, 'user', 'count')
  redis.call('HINCRBY', session, 'version', 1)
  expire(DAY, session)
end
if redis.call('EXISTS', history) == 1 then forget_thread(history, order) end
local reply, all = {}, redis.call('HGETALL', running)
for i = 1, #all, 2 do
  local lease, question = string.match(all[i + 1], '^(%d+) (%S+)')
  reply[#reply + 1] = all[i]
  reply[#reply + 1] = whole(tonumber(lease) - now())
  reply[#reply + 1] = question
end
return reply
`,
)
