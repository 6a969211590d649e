/** Token budgets (docs/limits.md): what was used, in counters, and what turns that are being answered may yet use. */
import { script } from './prelude.ts'

/**
 * Holds tokens for a turn, if every budget in force has room for them; again changes nothing.
 * KEYS: reserved, then the counter of each budget. ARGV: turn; user; day; tokens; for how many ms; then of each budget
 * whose it is (`user` or `tenant`), its period (`day` or `month`), its limit, and what was used as Postgres says it ('':
 * not asked), which counts where there is no counter yet.
 * Returns {'reserved', until (ms)}; {'miss'}: a counter is not there; {'refused', what is used of each budget…}.
 *
 * What is held too long counts no more, and is forgotten when nobody will end the turn any more.
 */
export const reserve = script(
  'reserve',
  `
local reserved = KEYS[1]
local id, user, day, tokens, holdMs = unpack(ARGV)
local month, at = string.sub(day, 1, 7), now()
local again = redis.call('HGET', reserved, id)
if again then return {'reserved', string.match(again, '^%d+ (%d+)')} end

local held = {userday = 0, usermonth = 0, tenantday = 0, tenantmonth = 0}
local function add(period, owner, amount)
  held['tenant' .. period] = held['tenant' .. period] + amount
  if owner == user then held['user' .. period] = held['user' .. period] + amount end
end
local all = redis.call('HGETALL', reserved)
for i = 1, #all, 2 do
  local amount, untilMs, on, owner = string.match(all[i + 1], '^(%d+) (%d+) (%S+) (%S*)')
  amount, untilMs = tonumber(amount), tonumber(untilMs)
  if untilMs > at then
    if on == day then add('day', owner, amount) end
    if string.sub(on, 1, 7) == month then add('month', owner, amount) end
  elseif untilMs + KEPT < at then
    redis.call('HDEL', reserved, all[i])
  end
end

local reply, fits = {'refused'}, true
for i = 2, #KEYS do
  local whose, period, limit, loaded = unpack(ARGV, 4 * i - 2, 4 * i + 1)
  if loaded ~= '' then redis.call('SET', KEYS[i], loaded, 'NX', 'PX', (period == 'day' and 2 or 33) * DAY) end
  local counted = redis.call('GET', KEYS[i])
  if not counted then return {'miss'} end
  local used = tonumber(counted) + held[whose .. period]
  reply[i] = whole(used)
  fits = fits and used + tonumber(tokens) <= tonumber(limit)
end
if not fits then return reply end
local untilMs = whole(at + tonumber(holdMs))
redis.call('HSET', reserved, id, tokens .. ' ' .. untilMs .. ' ' .. day .. ' ' .. user)
expire(KEPT, reserved)
return {'reserved', untilMs}
`,
)

/**
 * A turn has its answer: it holds nothing any more, and what it has used is counted, once.
 * KEYS: reserved, then counters. ARGV: turn; tokens. A counter that is not there is not begun: Postgres knows more.
 */
export const settle = script(
  'settle',
  `
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
for i = 2, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then redis.call('INCRBY', KEYS[i], ARGV[2]) end
end
return 1
`,
)
