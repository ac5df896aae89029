#!lua flags=allow-oom
-- Undoes begin: the answer was refused before it began.
-- KEYS conversation, messages, list, usage, generation, events, text, thinking, replaced, and if
-- the message has a key, it and its owner's requests
-- ARGV fencing token, id, generation id, '1' when begin created the conversation, title, model and
-- time that begin set, title,
--      model and time of the last change before, ttl
-- Returns 1, 0 or -1 (see writer), or 2 when the message was sent again meanwhile and is known to
-- be stored.
local conversation, messages, list, usage, generation, events, text, thinking, replaced, key,
  requests = unpack(KEYS)
if redis.call('EXISTS', generation) == 0 then return 1 end -- withdrawn before: the reply was lost
local held = writer(generation, ARGV[1])
if held ~= 1 then return held end
if key and redis.call('HGET', key, 'generation') == ARGV[3] then
  if redis.call('HEXISTS', key, 'acknowledged') == 1 then return 2 end
  redis.call('DEL', key)
  redis.call('ZREM', requests, key)
end
redis.call('DEL', generation, events, text, thinking)
if redis.call('HGET', conversation, 'generation') ~= ARGV[3] then return 1 end
redis.call('HDEL', conversation, 'generation')
local bytes = 0
for _, message in ipairs(redis.call('RPOP', messages, 2)) do -- nobody can have pushed after begin
  bytes = bytes - #message
end
account(usage, ARGV[2], bytes + restore(messages, replaced, tonumber(ARGV[11])))
if ARGV[4] == '1' then
  redis.call('DEL', conversation, messages)
  redis.call('ZREM', list, ARGV[2])
  return 1
end
-- What somebody else has changed since stays.
local title, model, changed = unpack(redis.call('HMGET', conversation, 'title', 'model',
  'updated_at'))
if title == ARGV[5] then redis.call('HSET', conversation, 'title', ARGV[8]) end
if model == ARGV[6] then redis.call('HSET', conversation, 'model', ARGV[9]) end
if changed == ARGV[7] then
  redis.call('HSET', conversation, 'updated_at', ARGV[10])
  redis.call('ZADD', list, ARGV[10], ARGV[2])
end
return 1
