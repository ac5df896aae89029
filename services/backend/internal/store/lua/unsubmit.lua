#!lua flags=allow-oom
-- KEYS usage, submission, submissions
-- ARGV answer id, the submission as it was read, or '' to delete it as it is
-- Returns how many there were, or -1 when it has changed.
if ARGV[2] ~= '' and redis.call('GET', KEYS[2]) ~= ARGV[2] then return -1 end
forget(KEYS[1], 'submission:' .. ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
return redis.call('UNLINK', KEYS[2])
