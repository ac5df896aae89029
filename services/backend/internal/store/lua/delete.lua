-- KEYS conversation, messages, list
-- ARGV id, owner, keep
-- Returns 0 when the owner has no such conversation, else the id of the answer that was stopped with it, or ''.
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[2] then return 0 end
local id = redis.call('HGET', KEYS[1], 'generation')
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[1])
if not id then return '' end
local generation = 'generation:' .. id
if redis.call('HGET', generation, 'state') == 'running' then
  redis.call('HSET', generation, 'state', 'ended')
  redis.call('XADD', generation .. ':events', '*', 'e', 'stopped', 'd', '{}')
  redis.call('DEL', generation .. ':text')
  keep(tonumber(ARGV[3]), generation, generation .. ':events')
end
return id
