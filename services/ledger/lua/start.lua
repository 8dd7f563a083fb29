-- OPEN | GENERATING -> GENERATING under the next attempt number, which fences the attempt before it.
-- KEYS: group, episodes. ARGV: worker. Returns the attempt, >= 1.
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= 'OPEN' and state ~= 'GENERATING' then return redis.error_reply('REFUSED ' .. (state or 'UNKNOWN')) end
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[1], 'state', 'GENERATING', 'worker', ARGV[1])
return redis.call('HINCRBY', KEYS[1], 'attempt', 1)
