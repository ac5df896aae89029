-- Stores the user's message and the message of an answer that begins.
-- KEYS conversation, messages, list, generation, events
-- ARGV id, owner, title, model, now, ttl, generation id, user message, assistant message, start event, lease,
--      greatest number of messages, number of messages returned, '1' to create the conversation
-- Returns 'missing', 'busy', 'full', or 'ok' and the last messages before these.
local conversation, messages, list, generation, events = unpack(KEYS)
local ttl = tonumber(ARGV[6])
if ARGV[14] == '1' then
  redis.call('HSET', conversation, 'owner', ARGV[2], 'title', ARGV[3], 'created_at', ARGV[5])
else
  if redis.call('HGET', conversation, 'owner') ~= ARGV[2] then return {'missing'} end
  if redis.call('HEXISTS', conversation, 'generation') == 1 then return {'busy'} end
  if redis.call('LLEN', messages) + 2 > tonumber(ARGV[12]) then return {'full'} end
  if redis.call('HGET', conversation, 'title') == '' then redis.call('HSET', conversation, 'title', ARGV[3]) end
end
local history = redis.call('LRANGE', messages, -tonumber(ARGV[13]), -1)
redis.call('RPUSH', messages, ARGV[8], ARGV[9])
redis.call('HSET', conversation, 'model', ARGV[4], 'generation', ARGV[7])
redis.call('HSET', generation, 'owner', ARGV[2], 'conversation', ARGV[1], 'state', 'running',
  'lease', now_ms() + tonumber(ARGV[11]))
redis.call('XADD', events, '*', 'e', 'start', 'd', ARGV[10])
touch(conversation, messages, list, ARGV[1], ARGV[5], ttl)
keep(ttl, generation, events)
table.insert(history, 1, 'ok')
return history
