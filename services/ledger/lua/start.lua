-- OPEN | GENERATING -> GENERATING under the next attempt number, which fences the attempt before it.
-- KEYS: group, episodes. ARGV: worker, a token of this call, so that its repeat is recognised.
-- Returns the attempt and its draw, both >= 1.
local state = redis.call('HGET', KEYS[1], 'state')
if state == 'GENERATING' and redis.call('HGET', KEYS[1], 'token') == ARGV[2] then
  return {tonumber(redis.call('HGET', KEYS[1], 'attempt')), 1 + tonumber(redis.call('HGET', KEYS[1], 'redrawn') or 0)}
end
if state ~= 'OPEN' and state ~= 'GENERATING' then return redis.error_reply('REFUSED ' .. (state or 'UNKNOWN')) end
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[1], 'state', 'GENERATING', 'worker', ARGV[1], 'token', ARGV[2])
return {redis.call('HINCRBY', KEYS[1], 'attempt', 1), 1 + tonumber(redis.call('HGET', KEYS[1], 'redrawn') or 0)}
