#!lua flags=no-writes
-- Reads an answer.
-- KEYS conversation, generation, events
-- Returns the conversation's owner, the answer's state and the id of its last event, or '' for each
-- that is not there.
local last = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1]
return {redis.call('HGET', KEYS[1], 'owner') or '', redis.call('HGET', KEYS[2], 'state') or '',
  last and last[1] or ''}
