#!lua flags=allow-oom
-- Gives a conversation another owner, with its part of the account, and deletes the events of its
-- answers that have ended.
-- KEYS conversation, list and usage of the owner before, list and usage of the owner afterwards,
-- and all keys of answers that have ended
-- ARGV id, owner before, owner afterwards, ttl
-- Returns 'moved', 'missing' when the owner has no such conversation, or 'busy' when an answer is
-- being written in it.
local conversation, list, usage, to_list, to_usage = unpack(KEYS, 1, 5)
local id, ttl = ARGV[1], tonumber(ARGV[4])
if redis.call('HGET', conversation, 'owner') ~= ARGV[2] then return 'missing' end
if redis.call('HEXISTS', conversation, 'generation') == 1 then return 'busy' end
redis.call('HSET', conversation, 'owner', ARGV[3])
redis.call('ZREM', list, id)
redis.call('ZADD', to_list, redis.call('HGET', conversation, 'updated_at'), id)
local bytes = tonumber(redis.call('HGET', usage, id) or 0)
forget(usage, id)
if bytes > 0 then account(to_usage, id, bytes) end
keep(ttl, to_list, to_usage)
for k = 6, #KEYS do redis.call('UNLINK', KEYS[k]) end
return 'moved'
