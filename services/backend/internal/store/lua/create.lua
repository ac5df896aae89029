#!lua
-- KEYS conversation, messages, list, usage
-- ARGV id, owner, title, model, now, ttl, greatest number of conversations
-- Returns 'ok' or 'conversations'.
local ttl = tonumber(ARGV[6])
local exceeded = room(KEYS[3], KEYS[4], ARGV[5], ttl, 0, math.huge, 1, tonumber(ARGV[7]))
if exceeded then return exceeded end
redis.call('HSET', KEYS[1], 'owner', ARGV[2], 'title', ARGV[3], 'model', ARGV[4], 'created_at', ARGV[5])
touch(KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1], ARGV[5], ttl)
return 'ok'
