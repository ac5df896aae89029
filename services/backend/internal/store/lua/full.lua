#!lua
-- Does nothing: a Redis that has no memory left does not even begin it.
return 1
