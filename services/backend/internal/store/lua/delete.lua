#!lua flags=allow-oom
-- KEYS conversation, messages, list, usage, generation, events, text, thinking: of the answer that
-- is being written, if there
--      is one, replaced, and all keys of answers that have ended
-- ARGV id, owner, keep, generation id or ''
-- Returns 'deleted', 'missing' when the owner has no such conversation, or 'changed' when its answer is another one.
local conversation, messages, list, usage, generation, events, text, thinking = unpack(KEYS, 1, 8)
if redis.call('HGET', conversation, 'owner') ~= ARGV[2] then return 'missing' end
if (redis.call('HGET', conversation, 'generation') or '') ~= ARGV[4] then return 'changed' end
redis.call('UNLINK', conversation, messages, conversation .. ':ratings')
redis.call('ZREM', list, ARGV[1])
forget(usage, ARGV[1])
for k = 9, #KEYS do redis.call('UNLINK', KEYS[k]) end
if ARGV[4] == '' then return 'deleted' end
if redis.call('HGET', generation, 'state') == 'running' then
  redis.call('HSET', generation, 'state', 'ended')
  redis.call('XADD', events, '*', 'e', 'stopped', 'd', '{}')
  -- readers that wait get the end; of the text nothing is left
  redis.call('XTRIM', events, 'MAXLEN', 1)
  keep(tonumber(ARGV[3]), generation, events)
end
redis.call('UNLINK', text, thinking)
redis.call('HDEL', generation, 'found', 'sources')
return 'deleted'
