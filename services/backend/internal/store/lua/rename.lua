#!lua
-- KEYS conversation, messages, list, usage
-- ARGV id, owner, title, now, ttl
-- Returns 0 when the owner has no such conversation.
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'title', ARGV[3])
touch(KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1], ARGV[4], tonumber(ARGV[5]))
return 1
