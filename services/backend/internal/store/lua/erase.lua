#!lua flags=allow-oom
-- Marks an owner whose data are being erased: nothing new is stored for a time.
-- KEYS usage, list, requests
-- ARGV that time in ms, '1' when all of the owner's conversations and requests are gone
-- Returns 1, or 0 when a conversation is left.
local usage, list, requests = unpack(KEYS)
local life = tonumber(ARGV[1])
local done = ARGV[2] == '1'
if done and redis.call('EXISTS', list) == 1 then return 0 end
if done then redis.call('UNLINK', usage, requests) end
local alone = redis.call('EXISTS', usage) == 0
redis.call('HSET', usage, 'erased', now_ms() + life)
if alone then redis.call('PEXPIRE', usage, life) end
return 1
