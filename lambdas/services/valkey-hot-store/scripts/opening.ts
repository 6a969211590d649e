/**
 * Opening turns. Like every script here, these may be run twice with the same arguments: a connection that breaks before
 * the answer has them sent again.
 */
import { KEEPING } from './history.ts'
import { script } from './prelude.ts'

const OPENING = `
local function busy(running, id, matches)
  local found, lease = nil, -1
  local all = redis.call('HGETALL', running)
  for i = 1, #all, 2 do
    local untilMs, question = string.match(all[i + 1], '^(%d+) (%S+)')
    if all[i] ~= id and matches(all[i], question) and tonumber(untilMs) > lease then
      found, lease = all[i], tonumber(untilMs)
    end
  end
  return found, lease
end
local function head(entry)
  local parent, sequence, role, skip = string.match(entry, '^(%S+) (%d+) (%a) (%d) ')
  return parent, tonumber(sequence), role, skip
end
-- Messages from one towards the first question, newest first. Second: the id of one that is not here.
local function walk(history, from, count, final)
  local found, steps = {}, 0
  while from ~= '-' and #found < count and steps < count * 4 do
    steps = steps + 1
    local entry = redis.call('HGET', history, from)
    if not entry then
      if final then break end
      return found, from
    end
    local parent, _, _, skip = head(entry)
    if skip == '0' then found[#found + 1] = entry end
    from = parent
  end
  return found
end
`

/**
 * KEYS: session, history, order, running, unsaved, turn.
 * ARGV: message id; question id; owned by (`=user` or `-`); parent (`newest`, `-`, `=id`); lease ms; messages of
 *   history; most to keep; deadline (server's ms, 0: none); owner where the session is to be made here ('' otherwise);
 *   1: what is not here is nowhere; the question's skip; its body; what the save has to do for the answer.
 * Returns {'opened', user, created, parent, sequence, at, entry of the question, entries of history…};
 *   {'miss', version, message that is not here}; {'late'}; {'lapsed', id}; {'refused', code, id}.
 */
export const open = script(
  'open',
  `${OPENING}${KEEPING}
local session, history, order, running, unsaved, turn = unpack(KEYS)
local id, question, ownedBy, wanted, leaseMs, count, bound, deadline, maker, final, skip, body, onSave = unpack(ARGV)
count, bound, final = tonumber(count), tonumber(bound), final == '1'
local function opened(t, entries)
  local reply = {'opened', t.user, t.created, t.parent, t.sequence, t.at, t.entry}
  for _, entry in ipairs(entries) do reply[#reply + 1] = entry end
  return reply
end
local again = redis.call('HMGET', turn, 'question_id', 'user', 'created', 'parent', 'sequence', 'opened_at', 'question')
if again[1] == question and again[7] then
  local t = {user = again[2], created = again[3], parent = again[4], sequence = again[5] - 1, at = again[6], entry = again[7]}
  return opened(t, walk(history, again[4], count, true))
end
local at = now()
if tonumber(deadline) > 0 and at > tonumber(deadline) then return {'late'} end
local s = redis.call('HMGET', session, 'user', 'ended', 'deleted')
local user, version, created = s[1], version_of(session, history), '0'
if not user and maker == '' then return {'miss', version, ''} end
if not user then user, created = maker, '1' end
if s[3] or (ownedBy ~= '-' and ownedBy ~= '=' .. user) then return {'refused', 'not_found'} end
if s[2] then return {'refused', 'ended'} end

local parent = string.match(wanted, '^=(.*)') or '-'
local other, lease = busy(running, id, function(one) return wanted == 'newest' or one == parent end)
if other and lease <= at then return {'lapsed', other} end
if other and wanted == 'newest' then return {'refused', 'reply_in_progress', other} end
if other then return {'refused', 'invalid_request'} end
local newest = redis.call('HGET', history, '@newest')
if not newest and created == '0' then return {'miss', version, ''} end
if wanted == 'newest' then parent = string.match(newest or '-', '^%S+') end
local sequence = 1
if parent ~= '-' then
  local entry = redis.call('HGET', history, parent)
  if not entry then
    if final or created == '1' then return {'refused', 'invalid_request'} end
    return {'miss', version, parent}
  end
  local _, position, role, passed = head(entry)
  if role ~= 'a' or passed == '2' then return {'refused', 'invalid_request'} end
  sequence = position + 1
end
local entries, missing = walk(history, parent, count, final)
if missing then return {'miss', version, parent} end

local entry = parent .. ' ' .. whole(sequence) .. ' u ' .. skip .. ' ' .. whole(at) .. ' ' .. user .. '\\n' .. body
if created == '1' then
  redis.call('HSET', session, 'user', user)
  redis.call('HSET', history, '@newest', '-')
end
redis.call('HSET', turn, 'state', 'r', 'epoch', '1', 'user', user, 'question_id', question, 'question', entry,
  'created', created, 'parent', parent, 'sequence', whole(sequence + 1), 'opened_at', whole(at), 'next', '0', 'on_save', onSave)
redis.call('HSET', running, id, whole(at + tonumber(leaseMs)) .. ' ' .. question)
redis.call('HSET', unsaved, question, entry)
keep(history, order, question, entry, bound)
redis.call('HINCRBY', session, 'count', 1)
expire(DAY, session, history, order)
expire(KEPT, running, unsaved, turn)
return opened({user = user, created = created, parent = parent, sequence = whole(sequence), at = whole(at), entry = entry}, entries)
`,
)

/**
 * KEYS: session, history, order, running, turn.
 * ARGV: message id; target; owned by; lease ms; messages of history; 1: what is not here is nowhere; what the save has
 *   to do for the answer.
 * Returns as open does; the question's entry is the one that is there.
 */
export const reopen = script(
  'reopen',
  `${OPENING}
local session, history, order, running, turn = unpack(KEYS)
local id, target, ownedBy, leaseMs, count, final, onSave = unpack(ARGV)
count, final = tonumber(count), final == '1'
local at = now()
local s = redis.call('HMGET', session, 'user', 'ended', 'deleted')
local user, version = s[1], version_of(session, history)
if s[3] or (user and ownedBy ~= '-' and ownedBy ~= '=' .. user) then return {'refused', 'not_found'} end
if not user or redis.call('HEXISTS', history, '@newest') == 0 then return {'miss', version, target} end
local running_turn = redis.call('HGET', running, target)
local question = running_turn and string.match(running_turn, ' (%S+)') or target
local entry = redis.call('HGET', history, question)
local parent, sequence, role, skip
if entry then
  parent, sequence, role, skip = head(entry)
  if role == 'a' then
    question = parent
    entry = redis.call('HGET', history, question)
    if entry then parent, sequence, role, skip = head(entry) end
  end
end
if not entry and not final then return {'miss', version, question} end
if not entry or role ~= 'u' or skip == '2' then return {'refused', 'not_found'} end
if s[2] then return {'refused', 'ended'} end
local other, lease = busy(running, id, function(_, of) return of == question end)
if other and lease <= at then return {'lapsed', other} end
if other then return {'refused', 'reply_in_progress', other} end
local entries, missing = walk(history, parent, count, final)
if missing then return {'miss', version, question} end
if redis.call('EXISTS', turn) == 0 then
  redis.call('HSET', turn, 'state', 'r', 'epoch', '1', 'user', user, 'question_id', question,
    'created', '0', 'parent', parent, 'sequence', whole(sequence + 1), 'opened_at', whole(at), 'next', '0', 'on_save', onSave)
  redis.call('HSET', running, id, whole(at + tonumber(leaseMs)) .. ' ' .. question)
  expire(DAY, session, history, order)
  expire(KEPT, running, turn)
end
local reply = {'opened', user, '0', parent, whole(sequence), redis.call('HGET', turn, 'opened_at'), entry}
for _, one in ipairs(entries) do reply[#reply + 1] = one end
return reply
`,
)
