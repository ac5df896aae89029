#!lua flags=allow-oom
-- Adds to the text of an answer, or to its reasoning.
-- KEYS generation, events, text
-- ARGV fencing token, bytes of text before it, text, event, data, ttl
-- Returns 1, 0 or -1 (see writer), and fails with LOST when the text is not that long. The offset
-- makes it safe to send again a write whose reply was lost.
local held = writer(KEYS[1], ARGV[1])
if held ~= 1 then return held end
local from, length, text = tonumber(ARGV[2]), redis.call('STRLEN', KEYS[3]), ARGV[3]
if length == from + #text and length > from and redis.call('GETRANGE', KEYS[3], from,
  -1) == text then return 1 end
if length ~= from then
  return redis.error_reply('LOST the answer has ' .. length .. ' bytes, not ' .. ARGV[2])
end
redis.call('XADD', KEYS[2], '*', 'e', ARGV[4], 'd', ARGV[5])
redis.call('APPEND', KEYS[3], text)
if from == 0 then keep(tonumber(ARGV[6]), KEYS[3]) end
return 1
