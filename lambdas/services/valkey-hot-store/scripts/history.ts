/** Lua for scripts that put messages into a history. */
export const KEEPING = `
local function keep(history, order, id, entry, bound)
  if redis.call('HSET', history, id, entry) == 1 then redis.call('RPUSH', order, id) end
  while redis.call('LLEN', order) > bound do
    redis.call('HDEL', history, redis.call('LPOP', order))
  end
end
`
