#!lua flags=allow-oom
-- Marks an owner whose data are being erased: nothing new is stored for a time.
-- KEYS usage, list, requests
-- ARGV that time in ms, '1' when all of the owner's conversations and requests are gone
-- Returns 1, or 0 when a conversation is left.
local usage, list, requests = unpack(KEYS)
local done = ARGV[2] == '1'
if done and redis.call('EXISTS', list) == 1 then return 0 end
if done then redis.call('UNLINK', usage, requests) end
redis.call('SET', erased(usage), 1, 'PX', ARGV[1])
return 1
