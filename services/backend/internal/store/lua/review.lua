#!lua
-- Replaces a submission, which expires when it did before, unless it has changed.
-- KEYS usage, submission
-- ARGV answer id, the submission as it was read, and as it is to be
-- Returns 'missing', 'changed' or 'ok'.
local now = redis.call('GET', KEYS[2])
if not now then return 'missing' end
if now ~= ARGV[2] then return 'changed' end
redis.call('SET', KEYS[2], ARGV[3], 'KEEPTTL')
account(KEYS[1], 'submission:' .. ARGV[1], #ARGV[3] - #now)
return 'ok'
