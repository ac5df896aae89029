-- KEYS conversation, messages, list, generation, events, text: of the answer that is being written, if there is one
-- ARGV id, owner, keep, generation id or ''
-- Returns 'deleted', 'missing' when the owner has no such conversation, or 'changed' when its answer is another one.
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[2] then return 'missing' end
if (redis.call('HGET', KEYS[1], 'generation') or '') ~= ARGV[4] then return 'changed' end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[1])
if ARGV[4] ~= '' and redis.call('HGET', KEYS[4], 'state') == 'running' then
  redis.call('HSET', KEYS[4], 'state', 'ended')
  redis.call('XADD', KEYS[5], '*', 'e', 'stopped', 'd', '{}')
  redis.call('DEL', KEYS[6])
  keep(tonumber(ARGV[3]), KEYS[4], KEYS[5])
end
return 'deleted'
