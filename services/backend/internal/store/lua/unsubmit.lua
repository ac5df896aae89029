#!lua flags=allow-oom
-- KEYS usage, submission, submissions
-- ARGV answer id
-- Returns how many there were.
forget(KEYS[1], 'submission:' .. ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
return redis.call('UNLINK', KEYS[2])
