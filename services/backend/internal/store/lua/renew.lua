#!lua flags=allow-oom
-- KEYS generation
-- ARGV fencing token, lease, former lease
-- Returns 1, 0 or -1 (see writer).
local held = writer(KEYS[1], ARGV[1])
if held == 1 then hold(KEYS[1], tonumber(ARGV[2]), tonumber(ARGV[3])) end
return held
