#!lua flags=allow-oom
-- Gives up the lease: whoever looks next takes the answer over.
-- KEYS generation
-- ARGV fencing token
-- Returns 1, 0 or -1 (see writer).
local held = writer(KEYS[1], ARGV[1])
if held == 1 then redis.call('HSET', KEYS[1], 'expires', 0) end
return held
