#!lua flags=allow-oom
-- The queue that all ml of a stack share. It may run when Redis is full: what it holds is bounded.
--
-- KEYS: leases   sorted set  each ml, by the end of its lease (ms)
--       running  set         the requests that have their turn, each as ml:number
--       waiting  list        "owner ml:number" of those that wait, the next one first
--       owners   hash        the owners of those that have their turn, by ml:number; of others,
--                            too, if an ml of the former version gave their turns back
--
-- ARGV: what, ml, lease (ms), capacity, bound, and
--
--   enter  number, owner, atOnce   returns the place: 0 is a turn, or -1 and the place that it
--                                  would have had, or -2 when this ml has no lease, or -3 when the
--                                  owner has atOnce requests already (0: any number)
--   take   number, owner, atOnce   enters a request only if that is a turn, else returns -1
--   leave  number                  gives a turn or a place back
--   sync   how, last, number, state...
--                                  returns how many ml there are, 0 when this one has no lease; how
--                                  many requests wait; and the place of each of this ml's that
--                                  waits, -1 of one that was refused. See the end
--
-- Each may run twice: it does the same then.

local leases, running, waiting, owners = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local what, ml, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
local capacity, bound = tonumber(ARGV[4]), tonumber(ARGV[5])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local queue, changed = {}, false
for i, v in ipairs(redis.call('LRANGE', waiting, 0, -1)) do
	local owner, id = v:match('^(%S+) (%S+)$')
	queue[i] = {owner = owner, id = id}
end

local function place(id)
	for i, x in ipairs(queue) do
		if x.id == id then return i end
	end
end

-- order sorts those that wait: by how many of the same owner wait before, then by arrival.
local function order()
	local rounds, count, out = {}, {}, {}
	for _, x in ipairs(queue) do
		local round = (count[x.owner] or 0) + 1
		count[x.owner] = round
		rounds[round] = rounds[round] or {}
		table.insert(rounds[round], x)
	end
	for _, round in ipairs(rounds) do
		for _, x in ipairs(round) do table.insert(out, x) end
	end
	queue, changed = out, true
end

-- remove takes one out. Those of its owner behind it inherit its place: nobody else moves but
-- forward.
local function remove(i)
	for k = i + 1, #queue do
		if queue[k].owner == queue[i].owner then
			queue[i].id, i = queue[k].id, k
		end
	end
	table.remove(queue, i)
	changed = true
end

-- displace refuses the last request of the owner who has most of them waiting, to make room for one
-- of another owner. It returns false when that one would have as many then.
local function displace(owner)
	local count, last = {}, nil
	for _, x in ipairs(queue) do count[x.owner] = (count[x.owner] or 0) + 1 end
	for i, x in ipairs(queue) do
		if not last or count[x.owner] >= count[queue[last].owner] then last = i end
	end
	if not last or (count[owner] or 0) + 1 >= count[queue[last].owner] then return false end
	table.remove(queue, last)
	changed = true
	return true
end

-- run gives a request its turn, and halt takes it.
local function run(id, owner)
	redis.call('SADD', running, id)
	redis.call('HSET', owners, id, owner)
end

local function halt(id)
	redis.call('SREM', running, id)
	redis.call('HDEL', owners, id)
end

-- has returns how many requests of the owner run and wait.
local function has(owner)
	local n, turns = 0, redis.call('HGETALL', owners)
	for i = 1, #turns, 2 do
		if redis.call('SISMEMBER', running, turns[i]) == 0 then
			redis.call('HDEL', owners, turns[i])
		elseif turns[i + 1] == owner then
			n = n + 1
		end
	end
	for _, x in ipairs(queue) do
		if x.owner == owner then n = n + 1 end
	end
	return n
end

-- admit gives the turns that are free to those who wait.
local function admit()
	local free = capacity - redis.call('SCARD', running)
	while free > 0 and #queue > 0 do
		local x = table.remove(queue, 1)
		run(x.id, x.owner)
		order()
		free = free - 1
	end
	return free
end

-- enter returns the place of a request, 0 for a turn, nil when too many wait, -3 when the owner has
-- atOnce already. One that may not wait gets a turn or nil.
local function enter(id, owner, bounded, atOnce, turn)
	if redis.call('SISMEMBER', running, id) == 1 then return 0 end
	local at = place(id)
	if at then return at end
	if atOnce > 0 and has(owner) >= atOnce then return -3 end
	if admit() > 0 then
		run(id, owner)
		return 0
	end
	if turn or bounded and #queue >= bound and not displace(owner) then return nil end
	table.insert(queue, {owner = owner, id = id})
	order()
	return place(id)
end

-- forget gives back what the requests of an ml hold up to a number, but for those that are named.
local function forget(name, last, but, turns)
	local prefix = name .. ':'
	local function theirs(id)
		return id:sub(1, #prefix) == prefix and not but[id] and tonumber(id:sub(#prefix + 1)) <= last
	end
	for i = #queue, 1, -1 do
		if theirs(queue[i].id) then remove(i) end
	end
	if not turns then return end
	for _, id in ipairs(redis.call('SMEMBERS', running)) do
		if theirs(id) then halt(id) end
	end
end

local function save(reply)
	if changed then
		redis.call('DEL', waiting)
		for _, x in ipairs(queue) do redis.call('RPUSH', waiting, x.owner .. ' ' .. x.id) end
	end
	for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, 10 * lease) end
	return reply
end

-- An ml that was killed does not renew its lease. One that ends in the distant future was taken
-- before the clock was set back.
for _, range in ipairs({{'-inf', now}, {now + 10 * lease, '+inf'}}) do
	for _, name in ipairs(redis.call('ZRANGEBYSCORE', leases, range[1], range[2])) do
		redis.call('ZREM', leases, name)
		forget(name, math.huge, {}, true)
	end
end

if what == 'enter' or what == 'take' then
	if not redis.call('ZSCORE', leases, ml) then return save({-2}) end
	local at = enter(ml .. ':' .. ARGV[6], ARGV[7], true, tonumber(ARGV[8] or 0), what == 'take')
	if at then return save({at}) end
	return save({-1, #queue + 1})
end

if what == 'leave' then
	local id = ml .. ':' .. ARGV[6]
	halt(id)
	local at = place(id)
	if at then remove(at) end
	admit()
	return save({})
end

-- sync: the ml names its requests. The state is + and the owner with a turn, ? of one that asks at
-- this moment, else the owner of one that waits. What Redis has of this ml besides, up to the
-- number that was the last when it asked, is given back: a reply was lost. how is
--
--   ''      for a look at those that wait; it writes nothing where nothing changes
--   whole   which renews the lease and looks through the turns as well
--   join    of an ml that comes back: its turns are turns, and none of it that waits is refused
local how = ARGV[6]
if how ~= 'join' and not redis.call('ZSCORE', leases, ml) then return save({0, 0}) end
if how ~= '' then redis.call('ZADD', leases, now + lease, ml) end
local mine, named = {}, {}
for i = 8, #ARGV, 2 do mine[ml .. ':' .. ARGV[i]] = true end
forget(ml, tonumber(ARGV[7]), mine, how ~= '')

for i = 8, #ARGV, 2 do
	local id, state = ml .. ':' .. ARGV[i], ARGV[i + 1]
	if state:sub(1, 1) == '+' then
		if how == 'join' then run(id, state:sub(2)) end
	elseif state ~= '?' then
		table.insert(named, id)
		enter(id, state, how ~= 'join', 0)
	end
end
admit()
local reply = {redis.call('ZCARD', leases), #queue}
for _, id in ipairs(named) do
	if redis.call('SISMEMBER', running, id) == 1 then
		table.insert(reply, 0)
	else
		table.insert(reply, place(id) or -1)
	end
end
if how == '' and not changed then return reply end
return save(reply)
