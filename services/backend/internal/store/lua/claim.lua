#!lua flags=allow-oom
-- Takes over an answer whose writer is gone: raises the fencing token, so that the old writer is
-- refused.
-- KEYS conversation, messages, list, usage, generation, events, text, thinking, replaced
-- ARGV generation id, lease, former lease, grace: the time in ms to renew an expired lease, greatest
-- number of retries, and of messages and bytes of the history
-- Returns 'already' when the answer has ended, 'missing', 'leased' when its writer is there or may
-- be, 'former' when an instance of the former version writes it, or 'exhausted' or 'taken', the
-- fencing token, the number of retries, the number of messages left out, the bytes of reasoning,
-- the text, how many messages there are before the last ones, the groups of the owner as JSON,
-- what was found for the answer, its sources as JSON, and the messages, of which the last one is the answer's own.
local conversation, messages, _, _, generation, _, text, thinking = unpack(KEYS)
local state, fence, expires, retries, left_out, groups, found, sources =
  unpack(redis.call('HMGET', generation, 'state', 'fence', 'expires', 'retries', 'left_out',
  'groups', 'found', 'sources'))
local current = redis.call('HGET', conversation, 'generation') == ARGV[1]
if state and state ~= 'running' then return {'already'} end
if not state and not current then return {'missing'} end
local length, own = redis.call('LLEN', messages), redis.call('LINDEX', messages, -1)
if not fence or not current or length < 2 then return {'former'} end
local now, lease = now_ms(), tonumber(ARGV[2])
expires = tonumber(expires)
local released = expires == 0
if not released then
  -- A lease that ends far ahead was taken before the clock was set back.
  if expires > now and expires <= now + 10 * lease then return {'leased'} end
  -- One that ended long ago may have been taken before the clock was set forward.
  if redis.call('HSETNX', generation, 'suspect', '1') == 1 then
    redis.call('HSET', generation, 'expires', now + tonumber(ARGV[4]))
    return {'leased'}
  end
end
fence = redis.call('HINCRBY', generation, 'fence', 1)
retries = tonumber(retries or 0)
if not released then retries = redis.call('HINCRBY', generation, 'retries', 1) end
hold(generation, lease, tonumber(ARGV[3]))
local earlier, history = before(messages, length - 1, tonumber(ARGV[6]), tonumber(ARGV[7]), 1)
local result = 'taken'
if retries > tonumber(ARGV[5]) then result = 'exhausted' end
table.insert(history, own)
for k, v in ipairs({result, tostring(fence), tostring(retries), left_out or '0',
  tostring(redis.call('STRLEN', thinking)),
  redis.call('GET', text) or '', tostring(earlier), groups or '[]', found or '',
  sources or ''}) do
  table.insert(history, k, v)
end
return history
