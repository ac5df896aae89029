-- KEYS generation, events, text
-- ARGV text, bytes of text before it, ttl
-- Returns 0 when the answer has ended, and fails with LOST when its text is not that long. The offset makes it safe to send again a write whose reply was lost.
if redis.call('HGET', KEYS[1], 'state') ~= 'running' then return 0 end
local from, length = tonumber(ARGV[2]), redis.call('STRLEN', KEYS[3])
if length == from + #ARGV[1] and length > from and redis.call('GETRANGE', KEYS[3], from, -1) == ARGV[1] then return 1 end
if length ~= from then
  return redis.error_reply('LOST the answer has ' .. length .. ' bytes, not ' .. ARGV[2])
end
redis.call('XADD', KEYS[2], '*', 'e', 'delta', 'd', ARGV[1])
redis.call('APPEND', KEYS[3], ARGV[1])
if from == 0 then keep(tonumber(ARGV[3]), KEYS[3]) end
return 1
