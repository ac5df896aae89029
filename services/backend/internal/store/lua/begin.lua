#!lua
-- Stores the user's message and the message of an answer that begins. Without memory it is not run
-- at all.
-- KEYS conversation, messages, list, usage, generation, events, text, thinking, replaced, if the
-- message has a key, it and its owner's requests, and all keys of the answers that are replaced
-- ARGV id, owner, title, model, now, ttl, generation id, user message, assistant message, start
-- event, lease, former lease,
--      greatest number of messages, '1' to create the conversation, greatest number of messages and
--      bytes of the history, greatest number of bytes and of conversations of the owner, digest of
--      the message, or '' if it has no key, time its key is known, place of the first message that
--      is replaced, '' if none is, or -1 if it is not there, the first and the last answer that are
--      replaced, time that the replaced messages are kept, groups of the owner as JSON
-- Returns 'missing', 'busy', 'changed', 'full', 'erased', 'bytes', 'conversations', what known
-- returns, or 'ok', the title, the model and the time of the last change before this, the last
-- messages before these, and how many there are before those.
local conversation, messages, list, usage, generation, events = unpack(KEYS, 1, 6)
local replaced, key, first = KEYS[9], nil, tonumber(ARGV[21])
local id, now, ttl, created = ARGV[1], ARGV[5], tonumber(ARGV[6]), ARGV[14] == '1'
if ARGV[19] ~= '' then
  key = KEYS[10]
  local sent = known(key, ARGV[19])
  if sent then return sent end
end
local length, dropped = redis.call('LLEN', messages), 0
if not created then
  if redis.call('HGET', conversation, 'owner') ~= ARGV[2] then return {'missing'} end
  if redis.call('HEXISTS', conversation, 'generation') == 1 then return {'busy'} end
  if first then
    if not answers(messages, first + 1, ARGV[22]) or not answers(messages, -1, ARGV[23]) then
      return {'changed'}
    end
    length = first
  end
  if length + 2 > tonumber(ARGV[13]) then return {'full'} end
end
redis.call('UNLINK', replaced)
for _ = length + 1, redis.call('LLEN', messages) do
  dropped = dropped + #redis.call('LMOVE', messages, replaced, 'RIGHT', 'LEFT')
end
local bytes = #ARGV[8] + #ARGV[9] - dropped
local exceeded = room(list, usage, now, ttl, bytes, tonumber(ARGV[17]), created and 1 or 0,
  tonumber(ARGV[18]))
if exceeded then
  restore(messages, replaced, ttl)
  return {exceeded}
end
if first then
  redis.call('PEXPIRE', replaced, ARGV[24])
  for k = key and 12 or 10, #KEYS do redis.call('UNLINK', KEYS[k]) end
end
local before_title, before_model, before_change = unpack(redis.call('HMGET', conversation, 'title',
  'model', 'updated_at'))
if created then
  redis.call('HSET', conversation, 'owner', ARGV[2], 'title', ARGV[3], 'created_at', now)
elseif before_title == '' then
  redis.call('HSET', conversation, 'title', ARGV[3])
end
local earlier, history = before(messages, length, tonumber(ARGV[15]), tonumber(ARGV[16]), 0)
redis.call('RPUSH', messages, ARGV[8], ARGV[9])
account(usage, id, bytes)
redis.call('HSET', conversation, 'model', ARGV[4], 'generation', ARGV[7])
redis.call('HSET', generation, 'owner', ARGV[2], 'conversation', id, 'state', 'running', 'fence', 1)
if ARGV[25] ~= '[]' then redis.call('HSET', generation, 'groups', ARGV[25]) end
hold(generation, tonumber(ARGV[11]), tonumber(ARGV[12]))
redis.call('XADD', events, '*', 'e', 'start', 'd', ARGV[10])
touch(conversation, messages, list, usage, id, now, ttl)
keep(ttl, generation, events)
if key then
  redis.call('HSET', key, 'digest', ARGV[19], 'generation', ARGV[7], 'conversation', id)
  redis.call('PEXPIRE', key, ARGV[20])
  remember(KEYS[11], key, tonumber(ARGV[20]))
end
for k, v in ipairs({'ok', before_title or '', before_model or '', before_change or '',
  tostring(earlier)}) do
  table.insert(history, k, v)
end
return history
