/**
 * The life of a turn. Every script may be run twice with the same arguments: a connection that breaks before the answer
 * has it sent again.
 *
 * turn (hash): state r(unning), c(losing), f(inished); epoch; stop; user; question_id; question and answer (entries);
 *   on_save; parent; sequence (the answer's); opened_at; next (event id); saved (entry); erased.
 * running (hash): turn -> `lease_until question_id`; 0: its answer is saved, nobody has to be waited for.
 * history (hash): message -> entry; `@newest` -> `id opened_at` of the newest answer, or `-`: without it the thread is
 *   not known here; `@version`. order (list): the messages as they came, to forget the oldest.
 * unsaved (hash): message -> entry, until persist has saved it.
 * log (stream): an entry for each batch, its id the last event's plus one.
 */
import { script } from './common.ts'

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
local function keep(history, order, id, entry, bound)
  if redis.call('HSET', history, id, entry) == 1 then redis.call('RPUSH', order, id) end
  while redis.call('LLEN', order) > bound do
    redis.call('HDEL', history, redis.call('LPOP', order))
  end
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
  `${OPENING}
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
  `${OPENING}${WRITING}
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
