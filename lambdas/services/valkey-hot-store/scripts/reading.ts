/** What others ask of a turn than its writer. */
import { script } from './prelude.ts'

/** Of a turn: its state and what is left of its lease in ms. */
const LOOKING = `
local function look(turn, running, id)
  local t = redis.call('HMGET', turn, 'state', 'user', 'erased')
  if not t[1] then return nil end
  local left = 0
  if t[1] ~= 'f' then
    left = tonumber(string.match(redis.call('HGET', running, id) or '0', '^%d+')) - now()
  end
  return t[1], t[2], t[3], left
end
`

/**
 * KEYS: turn, running, log, session. ARGV: message id; owned by; after; most bytes.
 * Returns {} or {state, lapsed, user, erased, then last id plus one and body of each batch}.
 */
export const readLog = script(
  'read log',
  `${LOOKING}
local state, user, erased, left = look(KEYS[1], KEYS[2], ARGV[1])
if not state or (ARGV[2] ~= '-' and ARGV[2] ~= '=' .. user) then return {} end
-- Without its session nobody can say whether it may still be shown.
if state == 'f' and redis.call('EXISTS', KEYS[4]) == 0 then return {} end
local reply = {state, (state ~= 'f' and left <= 0) and '1' or '0', user, (erased or redis.call('HGET', KEYS[4], 'deleted')) and '1' or '0'}
local from, bytes = whole(tonumber(ARGV[3]) + 2), 0
while bytes < tonumber(ARGV[4]) do
  local batches = redis.call('XRANGE', KEYS[3], from, '+', 'COUNT', 16)
  if #batches == 0 then break end
  for _, batch in ipairs(batches) do
    local after = string.match(batch[1], '^%d+')
    bytes = bytes + #batch[2][2]
    if bytes > tonumber(ARGV[4]) and #reply > 4 then return reply end
    reply[#reply + 1] = after
    reply[#reply + 1] = batch[2][2]
    from = whole(tonumber(after) + 1)
  end
end
return reply
`,
)

/** KEYS: turn, running. ARGV: message id; owned by; 1: ask it to stop. Returns {} or {state, lease left in ms}. */
export const look = script(
  'look',
  `${LOOKING}
local state, user, _, left = look(KEYS[1], KEYS[2], ARGV[1])
if not state or (ARGV[2] ~= '-' and ARGV[2] ~= '=' .. user) then return {} end
if ARGV[3] == '1' and state == 'r' then redis.call('HSET', KEYS[1], 'stop', '1') end
return {state, whole(left)}
`,
)
