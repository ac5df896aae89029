#!lua flags=allow-oom
-- Keeps what was found for an answer, until its end.
-- KEYS generation
-- ARGV fencing token, what was found
-- Returns 1, 0 or -1 (see writer).
local held = writer(KEYS[1], ARGV[1])
if held == 1 then redis.call('HSET', KEYS[1], 'found', ARGV[2]) end
return held
