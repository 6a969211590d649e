/** Rate limits: requests in a window that slides, kept as sql/operations/limits.sql keeps them (docs/limits.md). */
import { script } from './prelude.ts'

/**
 * KEYS: one for each check. ARGV: of each its limit, its window in microseconds, and how many requests are asked for.
 * Takes them from all, or from none where one does not allow it. Unlike its neighbours here it must not be run twice.
 * Returns for each {requests that count, microseconds until the oldest does no more, until enough of them do no more}.
 *
 * A key holds groups `last:count`, newest first: requests of the same twentieth of the window are one, which counts until
 * its last one does no more. A clock that was set back makes what lies in the future count from now on.
 */
export const admit = script(
  'admit',
  `
local t = redis.call('TIME')
local at = tonumber(t[1]) * 1000000 + tonumber(t[2])
local function read(key, span, room)
  local groups, used, oldest, inTheWay = {}, 0, at, nil
  for last, count in string.gmatch(redis.call('GET', key) or '', '(%d+):(%d+)') do
    last = math.min(tonumber(last), at)
    if last <= at - span then break end
    groups[#groups + 1] = {last, tonumber(count)}
    used, oldest = used + tonumber(count), last
    if used > room and not inTheWay then inTheWay = last end
  end
  return groups, {used, oldest + span - at, (inTheWay or at) + span - at}
end
local function write(key, span, groups, count)
  local newest, slice = groups[1], span / 20
  if newest and math.floor(newest[1] / slice) == math.floor(at / slice) then
    newest[1], newest[2] = at, newest[2] + count
  else
    table.insert(groups, 1, {at, count})
  end
  local words = {}
  for i, group in ipairs(groups) do words[i] = whole(group[1]) .. ':' .. whole(group[2]) end
  redis.call('SET', key, table.concat(words, ' '), 'PX', whole(math.ceil(span / 1000) + 1000))
end
local found, states, admitted = {}, {}, true
for i, key in ipairs(KEYS) do
  local limit, span, count = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  found[i], states[i] = read(key, span, limit - count)
  admitted = admitted and states[i][1] + count <= limit
end
if admitted then
  for i, key in ipairs(KEYS) do write(key, tonumber(ARGV[3 * i - 1]), found[i], tonumber(ARGV[3 * i])) end
end
return states
`,
)
