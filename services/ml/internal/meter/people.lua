#!lua flags=allow-oom
-- Puts a person among those who have asked, see package usage.
--
-- KEYS: the set; ARGV: the person, the number of the day, that of the last day that is not kept
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[3])
redis.call('PEXPIRE', KEYS[1], 40 * 24 * 3600 * 1000)
return {}
