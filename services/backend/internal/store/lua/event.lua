#!lua flags=allow-oom
-- Adds an event that is not text.
-- KEYS generation, events
-- ARGV fencing token, event, data, field of the answer or '', its value
-- Returns 1, 0 or -1 (see writer).
local held = writer(KEYS[1], ARGV[1])
if held ~= 1 then return held end
redis.call('XADD', KEYS[2], '*', 'e', ARGV[2], 'd', ARGV[3])
if ARGV[4] ~= '' then redis.call('HSET', KEYS[1], ARGV[4], ARGV[5]) end
return 1
