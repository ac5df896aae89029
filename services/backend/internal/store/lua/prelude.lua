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
local function touch(conversation, messages, list, usage, id, now, ttl)
  redis.call('HSET', conversation, 'updated_at', now)
  redis.call('ZADD', list, now, id)
  keep(ttl, conversation, messages, list, usage, conversation .. ':ratings')
end

-- writer returns 1 when the writer with the fencing token may write the answer, -1 when another
-- writer has taken it over, also if that has ended it, and 0 when the answer has ended else.
local function writer(generation, fence)
  local state, current = unpack(redis.call('HMGET', generation, 'state', 'fence'))
  if current and current ~= fence then return -1 end
  if state ~= 'running' then return 0 end
  return 1
end

-- hold takes the lease of an answer. former is the lease that instances of the former version see:
-- they end an answer whose lease has expired, and shall leave this one to those that take it over.
local function hold(generation, lease, former)
  local now = now_ms()
  redis.call('HSET', generation, 'expires', now + lease, 'lease', now + former)
  redis.call('HDEL', generation, 'suspect')
end

-- account adds bytes to what the owner stores in a conversation.
local function account(usage, id, bytes)
  for _, field in ipairs({id, 'total'}) do
    if redis.call('HINCRBY', usage, field, bytes) <= 0 then redis.call('HDEL', usage, field) end
  end
end

-- forget takes a conversation that is gone out of the account.
local function forget(usage, id)
  local bytes = redis.call('HGET', usage, id)
  if bytes then account(usage, id, -tonumber(bytes)) end
end

-- unrate drops the verdict on an answer of a conversation.
local function unrate(conversation, usage, id, answer)
  local ratings = conversation .. ':ratings'
  local verdict = redis.call('HGET', ratings, answer)
  if verdict then
    redis.call('HDEL', ratings, answer)
    account(usage, id, -#answer - #verdict)
  end
end

-- remember notes the key of a request among its owner's, so that all can be found again.
local function remember(requests, key, life)
  local now = now_ms()
  redis.call('ZREMRANGEBYSCORE', requests, '-inf', now)
  redis.call('ZADD', requests, now + life, key)
  redis.call('PEXPIRE', requests, life)
end

-- erased returns the key that is there for a time after an owner's data were erased. It is none of
-- the account, which instances of the former version take for conversations throughout.
local function erased(usage) return (usage:gsub('usage$', 'erased')) end

-- room returns which bound of an owner further bytes, or one more conversation, would exceed: 'bytes',
-- 'conversations' or nil. Conversations that have expired since, or were deleted by an instance
-- that keeps no account, are taken out of it first. It returns 'erased' for an owner whose data are
-- being erased.
local function room(list, usage, now, ttl, bytes, max_bytes, conversations, max_conversations)
  if redis.call('EXISTS', erased(usage)) == 1 then return 'erased' end
  local dead = ttl > 0 and tonumber(now) - ttl or 0
  if conversations > 0 then
    redis.call('ZREMRANGEBYSCORE', list, '-inf', '(' .. dead)
    if redis.call('ZCARD', list) + conversations > max_conversations then return 'conversations' end
  end
  local function fits() return tonumber(redis.call('HGET', usage,
    'total') or 0) + bytes <= max_bytes end
  if fits() then return nil end
  for _, id in ipairs(redis.call('HKEYS', usage)) do
    if string.find(id, 'submission:', 1, true) == 1 then
      if redis.call('EXISTS', (usage:gsub('usage$', id))) == 0 then forget(usage, id) end
    elseif id ~= 'total' then
      local changed = redis.call('ZSCORE', list, id)
      if not changed or tonumber(changed) < dead then forget(usage, id) end
    end
  end
  if not fits() then return 'bytes' end
end

-- known returns what a request was about that came before with the same key: nil, 'mismatch' if it
-- was another request, or 'known', the answer ('' of a new conversation) and the conversation.
-- Whoever sent it hears that it is done, so from now on a message may not be taken back.
local function known(key, digest)
  local was, generation, conversation = unpack(redis.call('HMGET', key, 'digest', 'generation',
    'conversation'))
  if not was then return nil end
  if was ~= digest then return {'mismatch'} end
  redis.call('HSET', key, 'acknowledged', '1')
  return {'known', generation, conversation}
end

-- answers reports whether the message at a place is the answer with the id. In JSON a text cannot
-- hold what is looked for, as its quotes are escaped.
local function answers(messages, place, generation)
  local message = redis.call('LINDEX', messages, place)
  return message and string.find(message, '"generation_id":"' .. generation .. '"', 1, true)
end

-- restore puts the messages back that a turn has replaced, and returns their bytes.
local function restore(messages, replaced, ttl)
  local bytes = 0
  for _ = 1, redis.call('LLEN', replaced) do
    bytes = bytes + #redis.call('LMOVE', replaced, messages, 'LEFT', 'RIGHT')
  end
  keep(ttl, messages)
  return bytes
end

-- before returns the place of the first and the list of up to count messages before a place, oldest
-- first, of together up to so many bytes; the last of them is there in any case when least is 1.
local function before(messages, place, count, bytes, least)
  local out, size, first = {}, 0, place
  while first > 0 and #out < count do
    local message = redis.call('LINDEX', messages, first - 1)
    if not message then break end
    size = size + #message
    if size > bytes and #out >= least then break end
    table.insert(out, 1, message)
    first = first - 1
  end
  return first, out
end
