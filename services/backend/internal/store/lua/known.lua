#!lua flags=allow-oom
-- KEYS the request's key
-- ARGV digest of the request
-- Returns '' or what known returns.
return known(KEYS[1], ARGV[1]) or {''}
