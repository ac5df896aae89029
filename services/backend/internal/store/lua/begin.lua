#!lua
-- Stores the user's message and the message of an answer that begins. Without memory it is not run
-- at all.
-- KEYS conversation, messages, list, usage, generation, events, the message's key if it has one
-- ARGV id, owner, title, model, now, ttl, generation id, user message, assistant message, start
-- event, lease, former lease,
--      greatest number of messages, '1' to create the conversation, greatest number of messages and
--      bytes of the history, greatest number of bytes and of conversations of the owner, digest of
--      the message, time its key is known
-- Returns 'missing', 'busy', 'full', 'bytes', 'conversations', what known returns, or 'ok', the
-- title, the model and the time of the last change before this, the last messages before these, and
-- how many there are before those.
local conversation, messages, list, usage, generation, events, key = unpack(KEYS)
local id, now, ttl, created = ARGV[1], ARGV[5], tonumber(ARGV[6]), ARGV[14] == '1'
if key then
  local sent = known(key, ARGV[19])
  if sent then return sent end
end
if not created then
  if redis.call('HGET', conversation, 'owner') ~= ARGV[2] then return {'missing'} end
  if redis.call('HEXISTS', conversation, 'generation') == 1 then return {'busy'} end
  if redis.call('LLEN', messages) + 2 > tonumber(ARGV[13]) then return {'full'} end
end
local bytes = #ARGV[8] + #ARGV[9]
local exceeded = room(list, usage, now, ttl, bytes, tonumber(ARGV[17]), created and 1 or 0,
  tonumber(ARGV[18]))
if exceeded then return {exceeded} end
local before_title, before_model, before_change = unpack(redis.call('HMGET', conversation, 'title',
  'model', 'updated_at'))
if created then
  redis.call('HSET', conversation, 'owner', ARGV[2], 'title', ARGV[3], 'created_at', now)
elseif before_title == '' then
  redis.call('HSET', conversation, 'title', ARGV[3])
end
local earlier, history = before(messages, redis.call('LLEN', messages), tonumber(ARGV[15]),
  tonumber(ARGV[16]), 0)
redis.call('RPUSH', messages, ARGV[8], ARGV[9])
account(usage, id, bytes)
redis.call('HSET', conversation, 'model', ARGV[4], 'generation', ARGV[7])
redis.call('HSET', generation, 'owner', ARGV[2], 'conversation', id, 'state', 'running', 'fence', 1)
hold(generation, tonumber(ARGV[11]), tonumber(ARGV[12]))
redis.call('XADD', events, '*', 'e', 'start', 'd', ARGV[10])
touch(conversation, messages, list, usage, id, now, ttl)
keep(ttl, generation, events)
if key then
  redis.call('HSET', key, 'digest', ARGV[19], 'generation', ARGV[7], 'conversation', id)
  redis.call('PEXPIRE', key, ARGV[20])
end
for k, v in ipairs({'ok', before_title or '', before_model or '', before_change or '',
  tostring(earlier)}) do
  table.insert(history, k, v)
end
return history
