-- Prepended to every script.

-- now_ms is the time of Redis: the only clock that all instances share.
local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- keep sets the time to live of keys in ms; 0 is for ever.
local function keep(ttl, ...)
  for _, key in ipairs({...}) do
    if ttl > 0 then redis.call('PEXPIRE', key, ttl) else redis.call('PERSIST', key) end
  end
end

-- touch marks a conversation as changed.
local function touch(conversation, messages, list, id, now, ttl)
  redis.call('HSET', conversation, 'updated_at', now)
  redis.call('ZADD', list, now, id)
  keep(ttl, conversation, messages, list)
end
