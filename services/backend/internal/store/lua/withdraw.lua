-- Undoes begin: the answer was refused before it began.
-- KEYS conversation, messages, list, generation, events, text
-- ARGV id, generation id, '1' when begin created the conversation
-- Returns 0 when the answer has ended already.
local state = redis.call('HGET', KEYS[4], 'state')
if not state then return 1 end -- withdrawn before: the reply was lost
if state ~= 'running' then return 0 end
redis.call('DEL', KEYS[4], KEYS[5], KEYS[6])
if redis.call('HGET', KEYS[1], 'generation') ~= ARGV[2] then return 1 end
redis.call('HDEL', KEYS[1], 'generation')
redis.call('RPOP', KEYS[2], 2) -- nobody can have pushed after begin
if ARGV[3] == '1' then
  redis.call('DEL', KEYS[1], KEYS[2])
  redis.call('ZREM', KEYS[3], ARGV[1])
end
return 1
