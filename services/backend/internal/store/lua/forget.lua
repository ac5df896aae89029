#!lua flags=allow-oom
-- KEYS list, usage
-- ARGV ids of conversations that have expired, which are taken out of both
for _, id in ipairs(ARGV) do
  redis.call('ZREM', KEYS[1], id)
  forget(KEYS[2], id)
end
return 1
