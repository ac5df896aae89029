#!lua flags=allow-oom
-- Ends an answer, once: writes its last event, and its message with the text so far.
-- KEYS conversation, messages, list, usage, generation, events, text, thinking, replaced
-- ARGV id, generation id, event, data, message state, problem or '', now, ttl, keep, fencing token
--      or '' for whoever may end it besides its writer, grace: 0, or the time in ms to renew an
--      expired lease, to end the answer of a former version only if nobody holds its lease, outage:
--      the time in ms after which nobody can be there who would
-- Returns 'ended' (by this call), 'already', 'superseded', 'leased', or 'missing'.
local conversation, messages, list, usage, generation, events, text, thinking, replaced =
  unpack(KEYS)
local state = redis.call('HGET', generation, 'state')
local current = redis.call('HGET', conversation, 'generation') == ARGV[2]
if state == 'ended' then
  -- An instance of a former version, which knows no reasoning and no sources, leaves them.
  redis.call('DEL', text, thinking)
  redis.call('HDEL', generation, 'found')
  if ARGV[10] ~= '' and writer(generation, ARGV[10]) == -1 then return 'superseded' end
  return 'already'
end
if not state and not current then return 'missing' end
if ARGV[10] ~= '' and writer(generation, ARGV[10]) == -1 then return 'superseded' end
if ARGV[11] ~= '0' and state then
  local lease, now = tonumber(redis.call('HGET', generation, 'lease')), now_ms()
  if lease > now then return 'leased' end
  if now - lease < tonumber(ARGV[12]) and redis.call('HSETNX', generation, 'suspect', '1') == 1 then
    redis.call('HSET', generation, 'lease', now + tonumber(ARGV[11]))
    return 'leased'
  end
end
if state then
  redis.call('HSET', generation, 'state', 'ended')
  redis.call('XADD', events, '*', 'e', ARGV[3], 'd', ARGV[4])
end
if current then
  redis.call('HDEL', conversation, 'generation')
  local last = redis.call('LINDEX', messages, -1)
  local message = last and cjson.decode(last)
  if message and message.generation_id == ARGV[2] then
    message.content = redis.call('GET', text) or ''
    message.thinking = redis.call('GET', thinking) or nil
    message.left_out = tonumber(redis.call('HGET', generation, 'left_out') or nil)
    local sources = redis.call('HGET', generation, 'sources')
    if sources then message.sources = cjson.decode(sources) end
    message.state = ARGV[5]
    message.digest = cjson.decode(ARGV[4]).digest
    if ARGV[6] ~= '' then message.error = cjson.decode(ARGV[6]) end
    message = cjson.encode(message)
    redis.call('LSET', messages, -1, message)
    account(usage, ARGV[1], #message - #last)
  end
  touch(conversation, messages, list, usage, ARGV[1], ARGV[7], tonumber(ARGV[8]))
end
redis.call('DEL', text, thinking)
redis.call('HDEL', generation, 'found')
if current then
  for _, message in ipairs(redis.call('LRANGE', replaced, 0, -1)) do
    local answer = string.match(message, '"generation_id":"([%w-]+)"')
    if answer then unrate(conversation, usage, ARGV[1], answer) end
  end
  redis.call('UNLINK', replaced)
end
keep(tonumber(ARGV[9]), generation, events)
return 'ended'
