#!lua
-- Stores what an owner hands over of an answer, in the place of what was handed over of it before.
-- KEYS list, usage, submission, submissions
-- ARGV answer id, the submission, time that it is kept in ms, now, ttl, greatest number of bytes and
--      of submissions of the owner
-- Returns 'erased', 'bytes', 'submissions' or 'ok'.
local list, usage, submission, submissions = unpack(KEYS)
local life, now = tonumber(ARGV[3]), now_ms()
local former = redis.call('GET', submission)
redis.call('ZREMRANGEBYSCORE', submissions, '-inf', now)
if not former and redis.call('ZCARD', submissions) >= tonumber(ARGV[7]) then return 'submissions' end
local bytes = #ARGV[2] - (former and #former or 0)
local exceeded = room(list, usage, ARGV[4], tonumber(ARGV[5]), bytes, tonumber(ARGV[6]), 0, 0)
if exceeded then return exceeded end
redis.call('SET', submission, ARGV[2], 'PX', life)
redis.call('ZADD', submissions, now + life, ARGV[1])
account(usage, 'submission:' .. ARGV[1], bytes)
return 'ok'
