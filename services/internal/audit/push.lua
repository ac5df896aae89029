-- Pushes lines behind the last one, if that is still the one that they follow.
-- KEYS the list of days, the list of the first line's day
-- ARGV the day, the SHA-1 of the last line, the lines
-- Returns 1, or the last line if it is another one.
local day = redis.call('LINDEX', KEYS[1], -1)
local last = day and redis.call('LINDEX', '{audit}:' .. day, -1) or ''
if redis.sha1hex(last) ~= ARGV[2] then return last end
if not day or day < ARGV[1] then -- a clock that is behind begins no day again
  day = ARGV[1]
  redis.call('RPUSH', KEYS[1], day)
end
redis.call('RPUSH', '{audit}:' .. day, unpack(ARGV, 3))
return 1
