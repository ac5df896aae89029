-- KEYS generation, events
-- ARGV data
-- Returns 0 when the answer has ended.
if redis.call('HGET', KEYS[1], 'state') ~= 'running' then return 0 end
redis.call('XADD', KEYS[2], '*', 'e', 'queue', 'd', ARGV[1])
return 1
