#!lua flags=allow-oom
-- Notes how often an answer has been begun anew, takeovers included.
-- KEYS generation
-- ARGV fencing token, number
-- Returns 1, 0 or -1 (see writer).
local held = writer(KEYS[1], ARGV[1])
if held == 1 then redis.call('HSET', KEYS[1], 'retries', ARGV[2]) end
return held
