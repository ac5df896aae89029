#!lua flags=no-writes
-- Reads a conversation and a page of its messages, as of one moment.
-- KEYS conversation, messages
-- ARGV place before which the page ends, or -1 for the end, greatest number of messages, and of
-- their bytes, fields...
-- Returns the fields' values, the place of the page's first message, and the messages.
local place = tonumber(ARGV[1])
local length = redis.call('LLEN', KEYS[2])
if place < 0 or place > length then place = length end
local first, page = before(KEYS[2], place, tonumber(ARGV[2]), tonumber(ARGV[3]), 1)
return {redis.call('HMGET', KEYS[1], unpack(ARGV, 4)), first, page}
