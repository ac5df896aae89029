#!lua
-- Stores the verdict on an answer of a conversation, for as long as the conversation is kept, or
-- drops it.
-- KEYS conversation, ratings, list, usage
-- ARGV id, owner, answer id, verdict or '' for none, ttl, now, greatest number of bytes of the owner
-- Returns 'missing' when the owner has no such conversation, 'erased', 'bytes' or 'ok'.
local conversation, ratings, list, usage = unpack(KEYS)
local id, answer, verdict, ttl, now = ARGV[1], ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local owner, changed = unpack(redis.call('HMGET', conversation, 'owner', 'updated_at'))
if owner ~= ARGV[2] then return 'missing' end
if verdict == '' then
  unrate(conversation, usage, id, answer)
  return 'ok'
end
local exceeded = room(list, usage, now, ttl, #answer + #verdict, tonumber(ARGV[7]), 0, 0)
if exceeded then return exceeded end
unrate(conversation, usage, id, answer)
redis.call('HSET', ratings, answer, verdict)
account(usage, id, #answer + #verdict)
if ttl > 0 then ttl = math.max(1, changed + ttl - now) end
keep(ttl, ratings)
return 'ok'
