#!lua
-- KEYS conversation, messages, list, usage, and if the request has a key, it and its owner's
-- requests
-- ARGV id, owner, title, model, now, ttl, greatest number of conversations, digest of the request,
--      time its key is known
-- Returns 'erased', 'conversations', 'ok' or what known returns.
local conversation, messages, list, usage, key, requests = unpack(KEYS)
local id, now, ttl = ARGV[1], ARGV[5], tonumber(ARGV[6])
if key then
  local sent = known(key, ARGV[8])
  if sent then return sent end
end
local exceeded = room(list, usage, now, ttl, 0, math.huge, 1, tonumber(ARGV[7]))
if exceeded then return {exceeded} end
redis.call('HSET', conversation, 'owner', ARGV[2], 'title', ARGV[3], 'model', ARGV[4], 'created_at',
  now)
touch(conversation, messages, list, usage, id, now, ttl)
if key then
  redis.call('HSET', key, 'digest', ARGV[8], 'generation', '', 'conversation', id)
  redis.call('PEXPIRE', key, ARGV[9])
  remember(requests, key, tonumber(ARGV[9]))
end
return {'ok'}
