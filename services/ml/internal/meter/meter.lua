#!lua flags=allow-oom
-- What a person has used, see package usage. It may run when Redis is full: what it holds is
-- bounded.
--
-- KEYS: the person's hash
--
-- ARGV: what, day, oldest, question, run, and
--
--   ask    questions, tokens  counts the question, unless the day has so many already (0: any)
--   count  prompt, answer     counts the question and the tokens of a run
--   undo                      takes the question back, unless a run of it was counted
--
-- It returns 1, or 0 if the question is refused; what the day has, in questions and tokens; and 1
-- if the question is the day's first. A question is counted once, on the day of its first run, however
-- many runs it takes: asked has the newest questions, each as "question=day=run " of which run is the
-- last that was counted. So each may run twice: it does the same then.

-- Of a person whose use was erased a moment ago nothing is counted, and each question is admitted.

local newest = 64 * #'q3vMVuQ0sXbO8JmG=2006-01-02=ABCDEFGHIJKLMNOPQRSTUVWXYZ ' -- bytes of asked

local person = KEYS[1]
local what, day, oldest, question, run = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if redis.call('HGET', person, 'erased') then return {1, 0, 0, 0} end

local asked, on, last = redis.call('HGET', person, 'asked') or '', nil, nil
if asked:find('%S', -1) then asked = asked .. ' ' end -- a former version's

local at = (' ' .. asked):find(' ' .. question .. '=', 1, true)
if at then
	local ends = asked:find(' ', at, true)
	on, last = asked:sub(at, ends - 1):match('^%S+=(%S+)=(%S+)$')
	asked = asked:sub(1, at - 1) .. asked:sub(ends + 1)
end

local function used(kind) return tonumber(redis.call('HGET', person, kind .. ':' .. day) or 0) end

local function reply(admitted, first)
	return {admitted, used('q'), used('p') + used('a'), first}
end

local function save()
	if #asked > newest then asked = asked:sub(1, newest):match('^(.* )') end
	redis.call('HSET', person, 'asked', asked)
	redis.call('PEXPIRE', person, 40 * 24 * 3600 * 1000)
end

if what == 'undo' then
	if last == '-' then
		redis.call('HINCRBY', person, 'q:' .. on, -1)
		save()
	end
	return reply(1, 0)
end

if what == 'ask' and not on then
	local questions, tokens = tonumber(ARGV[6]), tonumber(ARGV[7])
	if questions > 0 and used('q') >= questions
		or tokens > 0 and used('p') + used('a') >= tokens then
		return reply(0, 0)
	end
end

local first = 0
if not on then
	on, last = day, '-'
	if redis.call('HINCRBY', person, 'q:' .. day, 1) == 1 then
		first = 1
		for _, field in ipairs(redis.call('HKEYS', person)) do
			local d = field:match('^%a:(.+)$')
			if d and d < oldest then redis.call('HDEL', person, field) end
		end
	end
end

if what == 'count' and run ~= last then
	redis.call('HINCRBY', person, 'p:' .. on, ARGV[6])
	redis.call('HINCRBY', person, 'a:' .. on, ARGV[7])
	last = run
end

asked = question .. '=' .. on .. '=' .. last .. ' ' .. asked
save()
return reply(1, first)
