-- KEYS generation
-- ARGV lease
-- Returns 0 when the answer has ended.
if redis.call('HGET', KEYS[1], 'state') ~= 'running' then return 0 end
redis.call('HSET', KEYS[1], 'lease', now_ms() + tonumber(ARGV[1]))
redis.call('HDEL', KEYS[1], 'suspect')
return 1
