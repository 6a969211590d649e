/**
 * What every script begins with. `#!lua`: a server that is full or read-only refuses the whole script before it has
 * changed anything. Time is the server's, in milliseconds: clocks of functions are not asked.
 */
import { defineScript, type Script } from '../../valkey.ts'

const PRELUDE = `#!lua
local DAY = 86400000
-- A turn that has not ended, and a record that is not saved, outlive the queue's 14 days.
local KEPT = 15 * DAY
local function now()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end
local function whole(n) return string.format('%.0f', n) end
-- Raised by whatever makes wrong what is being loaded at this moment.
local function version_of(session, history)
  return (redis.call('HGET', session, 'version') or '0') .. ':' .. (redis.call('HGET', history, '@version') or '0')
end
local function forget_thread(history, order)
  local version = tonumber(redis.call('HGET', history, '@version') or '0')
  redis.call('DEL', history, order)
  redis.call('HSET', history, '@version', version + 1)
  redis.call('PEXPIRE', history, DAY)
end
local function expire(ms, ...)
  for _, key in ipairs({...}) do redis.call('PEXPIRE', key, ms) end
end
`

export const script = (name: string, lua: string): Script => defineScript(name, PRELUDE + lua)
