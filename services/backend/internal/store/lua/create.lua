-- KEYS conversation, messages, list
-- ARGV id, owner, title, model, now, ttl
redis.call('HSET', KEYS[1], 'owner', ARGV[2], 'title', ARGV[3], 'model', ARGV[4], 'created_at', ARGV[5])
touch(KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[5], tonumber(ARGV[6]))
return 1
